#include "vmm/lab/json_fields.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/base/text.h"

namespace vmm {

std::string text_of_bytes(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      text += c;
    } else {
      text += static_cast<char>(0xc0 | byte >> 6);
      text += static_cast<char>(0x80 | (byte & 0x3f));
    }
  }
  return text;
}

std::optional<std::string> bytes_of_text(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      bytes += text[i];
    } else if ((lead == 0xc2 || lead == 0xc3) && i + 1 < text.size()) {
      const auto next = static_cast<unsigned char>(text[++i]);
      if ((next & 0xc0) != 0x80) return std::nullopt;
      bytes += static_cast<char>((lead & 3) << 6 | (next & 0x3f));
    } else {
      return std::nullopt;
    }
  }
  return bytes;
}

JsonFields::JsonFields(std::string_view text)
    : JsonFields(nlohmann::json::parse(text, nullptr, false)) {}

JsonFields::JsonFields(nlohmann::json object) : object_(std::move(object)) {
  if (!object_.is_object()) problem("it is not a JSON object");
}

bool JsonFields::has(const char* name) const {
  return object_.is_object() && object_.contains(name);
}

const nlohmann::json* JsonFields::member(const char* name) {
  if (has(name)) return &*object_.find(name);
  problem(fmt::format("it has no '{}'", name));
  return nullptr;
}

std::string JsonFields::bytes(const char* name) {
  const auto* value = member(name);
  if (value == nullptr) return {};
  if (value->is_string())
    if (auto text = bytes_of_text(value->get_ref<const std::string&>())) return *std::move(text);
  problem(fmt::format("its '{}' is not a string of bytes", name));
  return {};
}

std::vector<std::string> JsonFields::list(const char* name) {
  std::vector<std::string> strings;
  const auto* value = member(name);
  if (value == nullptr) return strings;
  if (!value->is_array()) {
    problem(fmt::format("its '{}' is not a list", name));
    return strings;
  }
  for (const auto& item : *value) {
    auto text = item.is_string() ? bytes_of_text(item.get_ref<const std::string&>()) : std::nullopt;
    if (!text) {
      problem(fmt::format("its '{}' is not a list of strings of bytes", name));
      return {};
    }
    strings.push_back(*std::move(text));
  }
  return strings;
}

std::vector<std::uint64_t> JsonFields::numbers(const char* name) {
  std::vector<std::uint64_t> numbers;
  const auto* value = member(name);
  if (value == nullptr) return numbers;
  if (!value->is_array()) {
    problem(fmt::format("its '{}' is not a list", name));
    return numbers;
  }
  for (const auto& item : *value) {
    if (!item.is_number_unsigned()) {
      problem(fmt::format("its '{}' is not a list of numbers", name));
      return {};
    }
    numbers.push_back(item.get<std::uint64_t>());
  }
  return numbers;
}

JsonFields JsonFields::object(const char* name) {
  const auto* value = member(name);
  return JsonFields(value != nullptr ? *value : nlohmann::json());
}

std::vector<JsonFields> JsonFields::objects(const char* name) {
  std::vector<JsonFields> parts;
  const auto* value = member(name);
  if (value == nullptr) return parts;
  if (!value->is_array()) {
    problem(fmt::format("its '{}' is not a list", name));
    return parts;
  }
  for (const auto& item : *value) parts.emplace_back(item);
  return parts;
}

std::uint64_t JsonFields::unsigned_number(const char* name, std::uint64_t max) {
  const auto* value = member(name);
  if (value == nullptr) return 0;
  if (value->is_number_unsigned())
    if (const auto number = value->get<std::uint64_t>(); number <= max) return number;
  problem(fmt::format("its '{}' is not a number from 0 to {}", name, max));
  return 0;
}

void JsonFields::note(const JsonFields& part) {
  if (!part.problem_.empty()) problem(part.problem_);
}

void JsonFields::problem(std::string text) {
  if (problem_.empty()) problem_ = std::move(text);
}

Result<void> JsonFields::result() const {
  if (problem_.empty()) return {};
  return fail(Error::lab(printable(problem_)));
}

}  // namespace vmm
