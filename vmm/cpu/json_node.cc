#include "vmm/cpu/json_node.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "vmm/base/text.h"

namespace vmm {
namespace {

using nlohmann::json;

// "[json.exception.parse_error.101] parse error at line 1, column 2: WHAT": we tell the place.
std::string what_is_wrong(const json::exception& error) {
  std::string_view text = error.what();
  if (const std::size_t at = text.find("column "); at != std::string_view::npos)
    if (const std::size_t colon = text.find(": ", at); colon != std::string_view::npos)
      return "not JSON: " + printable(text.substr(colon + 2));
  if (const std::size_t bracket = text.find("] "); bracket != std::string_view::npos)
    text.remove_prefix(bracket + 2);
  return "not JSON: " + printable(text);
}

// Of a key that is there twice nlohmann keeps the last value; a reader of the file may see the
// first.
class RepeatedKeys {
 public:
  bool operator()(json::parse_event_t event, const json& parsed) {
    if (event == json::parse_event_t::object_start) objects_.emplace_back();
    if (event == json::parse_event_t::object_end) objects_.pop_back();
    if (event == json::parse_event_t::key && first_.empty()) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!objects_.back().insert(key).second) first_ = printable(key, 60);
    }
    return true;
  }
  const std::string& first() const { return first_; }

 private:
  std::vector<std::set<std::string>> objects_;
  std::string first_;
};

std::string path_of_member(const std::string& parent, std::string_view key) {
  const bool plain = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  }) && (key.front() < '0' || key.front() > '9');
  if (!plain) return fmt::format("{}[\"{}\"]", parent, printable(key, 60));
  return parent.empty() ? std::string(key) : fmt::format("{}.{}", parent, key);
}

// Walks a document that nlohmann has accepted, value by value, with the path of each.
class JsonWalk {
 public:
  explicit JsonWalk(std::string_view text) : text_(text) {}

  // Where the value with that path begins.
  std::optional<std::size_t> find(std::string_view path) {
    for (skip_space(); at_ < text_.size(); skip_space()) {
      const char c = text_[at_];
      if (c == '}' || c == ']') {
        if (open_.empty()) return std::nullopt;
        open_.pop_back();
        ++at_;
        continue;
      }
      if (c == ',' || c == ':') {
        ++at_;
        continue;
      }
      if (is_key()) {
        open_.back().key = read_string();
        open_.back().has_key = true;
        continue;
      }
      const std::string here = path_of_value();
      if (here == path) return at_;
      if (c == '{' || c == '[') {
        open_.push_back({here, c == '{', 0, {}, false});
        ++at_;
      } else if (c == '"') {
        read_string();
      } else {
        at_ = std::min(text_.find_first_of(",]} \t\r\n", at_), text_.size());
      }
    }
    return std::nullopt;
  }

 private:
  struct Open {
    std::string path;
    bool object = false;
    std::size_t index = 0;
    std::string key;
    bool has_key = false;
  };

  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
  bool is_key() const {
    return text_[at_] == '"' && !open_.empty() && open_.back().object && !open_.back().has_key;
  }
  // Without its quotes, escapes as they stand.
  std::string read_string() {
    const std::size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    at_ = std::min(at_, text_.size());
    std::string result(text_.substr(begin, at_ - begin));
    at_ = std::min(at_ + 1, text_.size());
    return result;
  }
  std::string path_of_value() {
    if (open_.empty()) return "";
    Open& parent = open_.back();
    if (!parent.object) return fmt::format("{}[{}]", parent.path, parent.index++);
    parent.has_key = false;
    return path_of_member(parent.path, parent.key);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::vector<Open> open_;
};

std::optional<std::size_t> find_json_value(std::string_view text, std::string_view path) {
  return JsonWalk(text).find(path);
}

std::string type_of(const json& value) {
  return value.is_number()    ? "a number"
         : value.is_null()    ? "null"
         : value.is_boolean() ? "true or false"
                              : fmt::format("of type {}", value.type_name());
}

}  // namespace

Result<void> JsonNode::only(std::initializer_list<std::string_view> known) const {
  if (!value_->is_object()) return fail(error(type_of(*value_) + " where an object is meant"));
  const std::vector<std::string> names(known.begin(), known.end());
  for (const auto& [key, unused] : value_->items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    Error unknown = error(fmt::format("unknown key '{}'", printable(key, 60)));
    if (const auto near = nearest_name(key, names))
      unknown = std::move(unknown).hint(fmt::format("did you mean '{}'?", *near));
    return fail(std::move(unknown));
  }
  return {};
}

bool JsonNode::has(std::string_view key) const {
  return value_->is_object() && value_->contains(key);
}

Result<JsonNode> JsonNode::member(std::string_view key) const {
  if (!value_->is_object()) return fail(error(type_of(*value_) + " where an object is meant"));
  const auto it = value_->find(key);
  if (it == value_->end()) return fail(error(fmt::format("'{}' is missing", key)));
  return JsonNode(&*it, source_, path_of_member(path_, key));
}

Result<std::vector<std::pair<std::string, JsonNode>>> JsonNode::members(std::size_t max) const {
  if (!value_->is_object()) return fail(error(type_of(*value_) + " where an object is meant"));
  if (value_->size() > max)
    return fail(error(fmt::format("{} entries, at most {} are allowed", value_->size(), max)));
  std::vector<std::pair<std::string, JsonNode>> result;
  for (const auto& [key, value] : value_->items())
    result.emplace_back(key, JsonNode(&value, source_, path_of_member(path_, key)));
  return result;
}

Result<std::vector<JsonNode>> JsonNode::items(std::size_t max) const {
  if (!value_->is_array()) return fail(error(type_of(*value_) + " where an array is meant"));
  if (value_->size() > max)
    return fail(error(fmt::format("{} items, at most {} are allowed", value_->size(), max)));
  std::vector<JsonNode> result;
  for (const json& item : *value_)
    result.push_back(JsonNode(&item, source_, fmt::format("{}[{}]", path_, result.size())));
  return result;
}

Result<std::string> JsonNode::string(std::size_t min, std::size_t max) const {
  if (!value_->is_string()) return fail(error(type_of(*value_) + " where a string is meant"));
  const auto& text = value_->get_ref<const std::string&>();
  if (text.size() < min || text.size() > max)
    return fail(error(fmt::format("{} characters, {} to {} are allowed", text.size(), min, max)));
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }))
    return fail(error(fmt::format("'{}' is not printable ASCII", printable(text, 60))));
  return text;
}

Result<std::uint64_t> JsonNode::hex(std::size_t digits) const {
  const auto wrong = [&](std::string_view text) {
    return fail(
        error(fmt::format("'{}' where {} hex digits are meant, in lower case and without 0x",
                          printable(text, 40), digits)));
  };
  if (!value_->is_string()) return wrong(type_of(*value_));
  const auto& text = value_->get_ref<const std::string&>();
  if (text.size() != digits || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    return wrong(text);
  return std::stoull(text, nullptr, 16);
}

Result<std::uint64_t> JsonNode::number(std::uint64_t low, std::uint64_t high) const {
  if (value_->is_number_unsigned())
    if (const auto value = value_->get<std::uint64_t>(); value >= low && value <= high)
      return value;
  return fail(error(fmt::format("a whole number from {} to {} is meant", low, high)));
}

Result<bool> JsonNode::flag() const {
  if (!value_->is_boolean()) return fail(error(type_of(*value_) + " where true or false is meant"));
  return value_->get<bool>();
}

Error JsonNode::error(std::string message) const {
  Error error = Error::usage(std::move(message));
  if (!path_.empty()) error = std::move(error).context(path_);
  return std::move(error).at(place());
}

std::string JsonNode::place() const {
  const auto offset = find_json_value(source_->text, path_);
  return offset ? text_place(source_->file, source_->text, *offset) : source_->file;
}

Result<void> JsonNode::expect_schema(std::string_view schema, std::string_view hint) const {
  const auto refuse = [&](const std::string& message, std::string_view before = {}) {
    return fail(error(message).hint(fmt::format("{}{}", before, hint)));
  };
  if (!has("schema") || !value_->at("schema").is_string())
    return refuse(fmt::format("not a document of schema '{}'", schema));
  if (const auto& text = value_->at("schema").get_ref<const std::string&>(); text != schema)
    return refuse(
        fmt::format("a document of schema '{}' where '{}' is meant", printable(text, 60), schema));
  if (!has("version")) return refuse("'version' is missing");
  const json& version = value_->at("version");
  if (!version.is_number_unsigned() || version != 1)
    return refuse(
        fmt::format("version {} of schema '{}', of which this vmm reads version 1",
                    printable(version.dump(-1, ' ', true, json::error_handler_t::replace), 20),
                    schema),
        "use the vmm that wrote it; ");
  return {};
}

struct JsonDocument::Data {
  explicit Data(std::string_view name) : source{printable(name), {}} {}

  json root;
  JsonSource source;
};

JsonDocument::JsonDocument(std::unique_ptr<Data> data) : data_(std::move(data)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::parse(std::string_view text, std::string_view file,
                                         std::size_t max_size) {
  auto data = std::make_unique<Data>(file);
  if (text.size() > max_size)
    return fail(Error::usage(fmt::format("{} bytes, at most {} are read", text.size(), max_size))
                    .at(data->source.file));
  data->source.text = text;
  RepeatedKeys repeated;
  try {
    data->root = json::parse(text, [&](int, json::parse_event_t event, json& parsed) {
      return repeated(event, parsed);
    });
  } catch (const json::parse_error& error) {
    return fail(
        Error::usage(what_is_wrong(error))
            .at(text_place(data->source.file, text, std::max<std::size_t>(error.byte, 1) - 1)));
  } catch (const json::exception& error) {
    return fail(Error::usage(what_is_wrong(error)).at(data->source.file));
  }
  if (!repeated.first().empty())
    return fail(
        Error::usage(fmt::format("the key '{}' is there twice in one object", repeated.first()))
            .at(data->source.file));
  return JsonDocument(std::move(data));
}

JsonNode JsonDocument::root() const { return {&data_->root, &data_->source, ""}; }

}  // namespace vmm
