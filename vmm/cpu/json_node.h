// A strict reader over a JSON document: every failure is a Usage error with FILE:LINE:COLUMN and
// the path of the value, and a key that nobody knows is an error with the nearest one.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// What was read, for messages.
struct JsonSource {
  std::string file;
  std::string text;
};

// One value of a document, which must outlive it.
class JsonNode {
 public:
  // An error when this is no object or has a key that is not in `known`.
  Result<void> only(std::initializer_list<std::string_view> known) const;
  bool has(std::string_view key) const;
  // The member `key`; an error when this is no object or has none.
  Result<JsonNode> member(std::string_view key) const;
  // Every member of an object, by key; an error when there are more than `max`.
  Result<std::vector<std::pair<std::string, JsonNode>>> members(std::size_t max) const;
  // Every item of an array, of at most `max`.
  Result<std::vector<JsonNode>> items(std::size_t max) const;

  // Printable ASCII of `min` to `max` characters.
  Result<std::string> string(std::size_t min, std::size_t max) const;
  // A string of `digits` hex digits (at most 16), lower case.
  Result<std::uint64_t> hex(std::size_t digits) const;
  Result<std::uint64_t> number(std::uint64_t low, std::uint64_t high) const;
  Result<bool> flag() const;
  // The same of the member `key`.
  Result<std::string> string(std::string_view key, std::size_t min, std::size_t max) const {
    return VMM_TRY(member(key)).string(min, max);
  }
  Result<std::uint64_t> hex(std::string_view key, std::size_t digits) const {
    return VMM_TRY(member(key)).hex(digits);
  }
  Result<std::uint64_t> number(std::string_view key, std::uint64_t low, std::uint64_t high) const {
    return VMM_TRY(member(key)).number(low, high);
  }
  Result<bool> flag(std::string_view key) const { return VMM_TRY(member(key)).flag(); }

  // An error unless this is an object that says {"schema": SCHEMA, "version": 1}. `hint` says where
  // such documents come from.
  Result<void> expect_schema(std::string_view schema, std::string_view hint) const;

  // A Usage error about this value: "FILE:3:7: supported_cpuid["00000007.00"]: MESSAGE".
  Error error(std::string message) const;
  // FILE:LINE:COLUMN of the value. Reads the text up to there.
  std::string place() const;

 private:
  friend class JsonDocument;
  JsonNode(const nlohmann::json* value, const JsonSource* source, std::string path)
      : value_(value), source_(source), path_(std::move(path)) {}

  const nlohmann::json* value_;
  const JsonSource* source_;
  std::string path_;
};

class JsonDocument {
 public:
  // A syntax error carries FILE:LINE:COLUMN; a text of more than `max_size` bytes and an object
  // with a key twice are errors too. `file` is only used in messages.
  static Result<JsonDocument> parse(std::string_view text, std::string_view file,
                                    std::size_t max_size);
  JsonDocument(JsonDocument&&) noexcept;
  ~JsonDocument();

  JsonNode root() const;

 private:
  struct Data;
  explicit JsonDocument(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

}  // namespace vmm
