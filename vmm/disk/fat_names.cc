#include "vmm/disk/fat_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "vmm/base/check.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

constexpr std::size_t kBase = 8, kExtension = 3;
constexpr std::size_t kMaxUnits = 255;
constexpr std::string_view kNeverInNames = "\"*/:<>?\\|";
// What a long name may have and a short one may not.
constexpr std::string_view kOnlyInLongNames = "+,;=[] .";

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }
char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

bool fits_short_name(char c) {
  return is_ascii(c) && !is_control(c) && kNeverInNames.find(c) == std::string_view::npos &&
         kOnlyInLongNames.find(c) == std::string_view::npos && !(c >= 'a' && c <= 'z');
}

// The code point at the front of `text`, which loses it; nothing where that is no UTF-8.
std::optional<std::uint32_t> next_code_point(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xc2 ? 0
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                             : first < 0xf5 ? 4
                                            : 0;
  if (length == 0 || length > text.size()) return std::nullopt;
  std::uint32_t value = length == 1 ? first : first & (0xffu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return std::nullopt;
    value = value << 6 | (next & 0x3fu);
  }
  constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kLeast[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
    return std::nullopt;
  text.remove_prefix(length);
  return value;
}

// Base and extension, at the last dot that is not in front of everything.
std::pair<std::string_view, std::string_view> split_extension(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return {name, {}};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

FatShortName padded(std::string_view base, std::string_view extension) {
  VMM_CHECK(base.size() <= kBase && extension.size() <= kExtension, "a short name is too long");
  FatShortName name;
  name.fill(' ');
  std::copy(base.begin(), base.end(), name.begin());
  std::copy(extension.begin(), extension.end(), name.begin() + kBase);
  return name;
}

// Capital letters, and _ for what a short name cannot have; without dots and spaces.
std::string shortened(std::string_view part) {
  std::string text;
  for (const char c : part) {
    if (c == '.' || c == ' ') continue;
    // Of a character in several bytes only the first leaves a mark.
    if (!is_ascii(c) && (static_cast<unsigned char>(c) & 0xc0) == 0x80) continue;
    text += fits_short_name(upper(c)) ? upper(c) : '_';
  }
  return text;
}

bool fits(std::string_view base, std::string_view extension, std::string_view whole) {
  const std::size_t dot = extension.empty() ? 0 : 1;
  return !base.empty() && base.size() <= kBase && extension.size() <= kExtension &&
         base.size() + dot + extension.size() == whole.size() &&
         std::all_of(base.begin(), base.end(), fits_short_name) &&
         std::all_of(extension.begin(), extension.end(), fits_short_name);
}

}  // namespace

tl::expected<std::vector<std::uint16_t>, std::string> fat_long_name(std::string_view utf8) {
  const auto refuse = [](std::string why) { return tl::unexpected<std::string>(std::move(why)); };
  for (const char c : utf8) {
    if (is_control(c)) return refuse("has a control character, which FAT names cannot have");
    if (kNeverInNames.find(c) != std::string_view::npos)
      return refuse(fmt::format("has a {}, which FAT names cannot have", c));
  }
  if (utf8.ends_with('.') || utf8.ends_with(' '))
    return refuse("ends in a dot or a space, which FAT names lose");
  std::vector<std::uint16_t> units;
  while (!utf8.empty()) {
    const auto point = next_code_point(utf8);
    if (!point) return refuse("is not UTF-8");
    if (*point < 0x10000) {
      units.push_back(static_cast<std::uint16_t>(*point));
    } else {
      units.push_back(static_cast<std::uint16_t>(0xd800 + ((*point - 0x10000) >> 10)));
      units.push_back(static_cast<std::uint16_t>(0xdc00 + (*point & 0x3ff)));
    }
  }
  if (units.empty() || units.size() > kMaxUnits)
    return refuse("is longer than the 255 characters of a FAT name");
  return units;
}

std::string fat_folded(std::string_view name) { return lower(name); }

bool FatAliases::is_its_own(std::string_view name) {
  const auto [base, extension] = split_extension(name);
  return fits(base, extension, name);
}

FatShortName FatAliases::add(std::string_view name) {
  const auto [whole_base, whole_extension] = split_extension(name);
  std::string base = shortened(whole_base);
  const std::string extension = shortened(whole_extension).substr(0, kExtension);
  // As it is, where only its case is lost.
  std::string capital(name);
  std::transform(capital.begin(), capital.end(), capital.begin(), upper);
  if (is_its_own(capital) && take(padded(base, extension))) return padded(base, extension);
  if (base.empty()) base = "_";
  // 3.6 "numeric tail": as much of the name as leaves room for it.
  const std::string key = base.substr(0, 6) + "." + extension;
  for (unsigned& number = next_number_[key];;) {
    const std::string tail = fmt::format("~{}", ++number);
    VMM_CHECK(tail.size() < kBase, "a directory has more entries than FAT allows");
    const FatShortName alias = padded(base.substr(0, kBase - tail.size()) + tail, extension);
    if (take(alias)) return alias;
  }
}

std::uint8_t fat_checksum(const FatShortName& name) {
  std::uint8_t sum = 0;
  for (const std::uint8_t c : name)
    sum = static_cast<std::uint8_t>(((sum & 1) << 7) + (sum >> 1) + c);
  return sum;
}

}  // namespace vmm
