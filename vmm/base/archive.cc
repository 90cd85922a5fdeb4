#include "vmm/base/archive.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {

std::string StateBlock::print() const {
  std::string text = fmt::format("{} v{}\n", kind, version);
  for (const auto& [name, value] : fields) text += fmt::format("  {} = {}\n", name, value);
  return text;
}

void SaveArchive::block(std::string_view kind, std::uint32_t version) {
  state_.kind = kind;
  state_.version = version;
}

void SaveArchive::number(std::string_view name, std::uint64_t& value, unsigned bits) {
  state_.fields.emplace_back(name, fmt::format("0x{:x}", value & low_mask(bits)));
}

void SaveArchive::bytes(std::string_view name, std::vector<std::uint8_t>& value, std::size_t,
                        std::size_t) {
  std::string digits;
  digits.reserve(value.size() * 2);
  for (const std::uint8_t byte : value) fmt::format_to(std::back_inserter(digits), "{:02x}", byte);
  state_.fields.emplace_back(name, std::move(digits));
}

void LoadArchive::block(std::string_view kind, std::uint32_t version) {
  if (kind != state_.kind || version != state_.version)
    refuse(fmt::format("the state is of '{}' v{}, wanted is '{}' v{}", state_.kind, state_.version,
                       kind, version));
}

void LoadArchive::refuse(std::string text) {
  if (!problem_) problem_ = std::move(text);
}

const std::string* LoadArchive::next(std::string_view name) {
  if (problem_) return nullptr;
  if (position_ >= state_.fields.size() || state_.fields[position_].first != name) {
    refuse(fmt::format("field '{}' is missing", name));
    return nullptr;
  }
  return &state_.fields[position_++].second;
}

void LoadArchive::number(std::string_view name, std::uint64_t& value, unsigned bits) {
  const std::string* text = next(name);
  if (text == nullptr) return;
  const auto parsed = parse_number(*text);
  if (!parsed || (*parsed & ~low_mask(bits)) != 0)
    refuse(
        fmt::format("field '{}': '{}' is not a number of {} bits", name, printable(*text), bits));
  else
    value = *parsed;
}

void LoadArchive::bytes(std::string_view name, std::vector<std::uint8_t>& value, std::size_t min,
                        std::size_t max) {
  const std::string* text = next(name);
  if (text == nullptr) return;
  std::vector<std::uint8_t> parsed;
  for (std::size_t i = 0; i + 1 < text->size(); i += 2) {
    const auto byte = parse_number("0x" + text->substr(i, 2));
    if (!byte) break;
    parsed.push_back(static_cast<std::uint8_t>(*byte));
  }
  if (parsed.size() * 2 != text->size() || parsed.size() < min || parsed.size() > max)
    refuse(fmt::format("field '{}' is not {} to {} bytes in hex", name, min, max));
  else
    value = std::move(parsed);
}

Result<void> LoadArchive::finish() const {
  if (problem_) return fail(Error::usage(*problem_));
  if (position_ != state_.fields.size())
    return fail(Error::usage(fmt::format("field '{}' is unknown", state_.fields[position_].first)));
  return {};
}

std::vector<std::string> diff(const StateBlock& before, const StateBlock& after) {
  std::vector<std::string> lines;
  const std::size_t count = std::max(before.fields.size(), after.fields.size());
  for (std::size_t i = 0; i < count; ++i) {
    const auto* a = i < before.fields.size() ? &before.fields[i] : nullptr;
    const auto* b = i < after.fields.size() ? &after.fields[i] : nullptr;
    if (a != nullptr && b != nullptr && *a == *b) continue;
    lines.push_back(fmt::format("{}: {} -> {}", (a != nullptr ? a : b)->first,
                                a != nullptr ? a->second : "(absent)",
                                b != nullptr ? b->second : "(absent)"));
  }
  return lines;
}

}  // namespace vmm
