#include "vmm/matrix/record_reader.h"

#include <fmt/format.h>

#include "vmm/base/text.h"
#include "vmm/matrix/clean_text.h"

namespace vmm {

using nlohmann::json;

RecordReader::RecordReader(const json& object, std::string path)
    : object_(&object), path_(std::move(path)) {
  if (object.is_object()) return;
  const std::string name = path_.empty() ? "it" : path_.substr(0, path_.size() - 1);
  error_ = Error::usage(fmt::format("{} is no object", name));
}

void RecordReader::refuse(std::string_view key, std::string_view what) {
  if (!error_) error_ = Error::usage(fmt::format("{}{} {}", path_, key, what));
}

void RecordReader::take_error(const RecordReader& inner) {
  if (!error_) error_ = inner.error_;
}

const json* RecordReader::member(const char* key) {
  if (error_) return nullptr;
  const auto it = object_->find(key);
  if (it != object_->end()) return &*it;
  refuse(key, "is missing");
  return nullptr;
}

std::string RecordReader::string(const char* key) {
  const json* value = member(key);
  if (value == nullptr) return {};
  if (!value->is_string()) {
    refuse(key, "is no string");
    return {};
  }
  return std::string(cut_text(value->get_ref<const std::string&>(), kMaxString));
}

std::vector<std::string> RecordReader::strings(const char* key, std::size_t max) {
  std::vector<std::string> result;
  const json* value = member(key);
  if (value == nullptr) return result;
  if (!value->is_array() || value->size() > max) {
    refuse(key, fmt::format("is no array of at most {} strings", max));
    return result;
  }
  result.reserve(value->size());
  for (const json& item : *value) {
    if (!item.is_string()) {
      refuse(key, "has an item that is no string");
      return result;
    }
    result.emplace_back(cut_text(item.get_ref<const std::string&>(), kMaxString));
  }
  return result;
}

std::uint64_t RecordReader::count(const char* key) {
  const json* value = member(key);
  if (value == nullptr) return 0;
  if (value->is_number_unsigned() ||
      (value->is_number_integer() && value->get<std::int64_t>() >= 0))
    return value->get<std::uint64_t>();
  refuse(key, "is no whole number");
  return 0;
}

double RecordReader::seconds(const char* key) {
  const json* value = member(key);
  if (value == nullptr) return 0;
  if (value->is_number())
    if (const double seconds = value->get<double>(); seconds >= 0 && seconds <= 1e12)
      return seconds;
  refuse(key, "is no number of seconds");
  return 0;
}

int RecordReader::exit_code(const char* key) {
  const std::uint64_t code = count(key);
  if (code > 255) refuse(key, "is no exit code");
  return static_cast<int>(code & 0xff);
}

CellVerdict RecordReader::verdict(const char* key) {
  const std::string word = string(key);
  if (const auto verdict = verdict_of(word)) return *verdict;
  refuse(key, fmt::format("is '{}', which is no verdict", printable(word, 40)));
  return CellVerdict::Infra;
}

void RecordReader::items(const char* key, std::size_t max,
                         const std::function<void(RecordReader&)>& read) {
  const json* value = member(key);
  if (value == nullptr) return;
  if (!value->is_array() || value->size() > max)
    return refuse(key, fmt::format("is no array of at most {} items", max));
  std::size_t number = 0;
  for (const json& item : *value) {
    RecordReader inner(item, fmt::format("{}{}[{}].", path_, key, number++));
    if (!inner.error_) read(inner);
    take_error(inner);
    if (error_) return;
  }
}

void RecordReader::object_or_null(const char* key, const std::function<void(RecordReader&)>& read) {
  const json* value = member(key);
  if (value == nullptr || value->is_null()) return;
  RecordReader inner(*value, fmt::format("{}{}.", path_, key));
  if (!inner.error_) read(inner);
  take_error(inner);
}

}  // namespace vmm
