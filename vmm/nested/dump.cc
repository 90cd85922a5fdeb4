#include "vmm/nested/dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "vmm/base/text.h"
#include "vmm/nested/blob.h"

namespace vmm::nested {
namespace {

constexpr std::string_view kBegin = "vmm-dump ";
constexpr std::string_view kEnd = "end of vmm-dump";
constexpr std::size_t kRow = 32;

std::optional<std::uint64_t> take_hex(std::string_view& text, std::size_t digits) {
  std::uint64_t value = 0;
  if (text.size() < digits) return std::nullopt;
  const char* end = text.data() + digits;
  const auto [stop, error] = std::from_chars(text.data(), end, value, 16);
  if (error != std::errc() || stop != end) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

// "0020: 00 01 ...": at most a row, within the dump.
bool take_row(std::string_view line, std::vector<std::uint8_t>& bytes) {
  constexpr std::size_t kOffsetDigits = 4;
  const auto offset = take_hex(line, kOffsetDigits);
  if (!offset || !line.starts_with(':')) return false;
  line.remove_prefix(1);
  std::size_t at = *offset;
  for (std::size_t i = 0; i < kRow && line.starts_with(' '); ++i, ++at) {
    line.remove_prefix(1);
    const auto byte = take_hex(line, 2);
    if (!byte || at >= bytes.size()) return false;
    bytes[at] = static_cast<std::uint8_t>(*byte);
  }
  return line.empty() && at != *offset;
}

}  // namespace

std::string dump_text(std::string_view what, std::span<const std::uint8_t> bytes) {
  std::string text = fmt::format("{}{} bytes: {}\n", kBegin, bytes.size(), what);
  for (std::size_t at = 0; at < bytes.size(); at += kRow) {
    const auto row = bytes.subspan(at, std::min(kRow, bytes.size() - at));
    if (std::ranges::all_of(row, [](std::uint8_t byte) { return byte == 0; })) continue;
    text += fmt::format("{:04x}:", at);
    for (const std::uint8_t byte : row) text += fmt::format(" {:02x}", byte);
    text += '\n';
  }
  return text + std::string(kEnd) + '\n';
}

Result<std::optional<std::vector<std::uint8_t>>> parse_dump(std::string_view text) {
  std::optional<std::vector<std::uint8_t>> bytes;
  std::size_t number = 0;
  for (std::string_view line : split(text, '\n')) {
    ++number;
    line = trim(line);
    if (!bytes) {
      if (!line.starts_with(kBegin)) continue;
      const auto size =
          parse_number(line.substr(kBegin.size()).substr(0, line.substr(kBegin.size()).find(' ')));
      if (!size || *size > kMaxBlobBytes)
        return fail(
            Error::image(fmt::format("line {}: a dump says how many bytes it has, at most "
                                     "{}",
                                     number, kMaxBlobBytes)));
      bytes.emplace(*size);
    } else if (line == kEnd) {
      return bytes;
    } else if (!take_row(line, *bytes)) {
      return fail(Error::image(
          fmt::format("line {}: no row of a dump (an offset of four hexadecimal digits, a colon, "
                      "at most {} bytes)",
                      number, kRow)));
    }
  }
  if (bytes) return fail(Error::image(fmt::format("the dump is cut off: '{}' is missing", kEnd)));
  return bytes;
}

}  // namespace vmm::nested
