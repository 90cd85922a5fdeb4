// A strict reader over a TOML document: every failure is a Usage error with FILE:LINE:COLUMN, and a
// key that nobody knows is an error with the nearest one.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

struct TomlString {
  std::string text;
  std::string place;
};

// One table of a document, which must outlive it.
class TomlTable {
 public:
  // An error when the table has a key that is not in `known`.
  Result<void> only(std::initializer_list<std::string_view> known) const;
  Result<void> only(const std::vector<std::string>& known) const;
  bool has(std::string_view key) const;
  // Sorted.
  std::vector<std::string> keys() const;
  // As they stand in the file.
  std::vector<std::string> keys_in_order() const;
  // FILE:LINE:COLUMN of the table, or of the value of `key` where it is there.
  std::string place() const;
  std::string place(std::string_view key) const;

  // The value of `key`; an error when absent, of another type or out of range.
  Result<std::uint64_t> number(std::string_view key, std::uint64_t low, std::uint64_t high) const;
  // Printable ASCII, 1 to `max` characters.
  Result<std::string> string(std::string_view key, std::size_t max) const;
  // Any text without control characters, at most `max` bytes.
  Result<std::string> text(std::string_view key, std::size_t max) const;
  Result<bool> boolean(std::string_view key) const;
  // A whole number or one with a point.
  Result<double> real(std::string_view key, double low, double high) const;
  // The table under `key`.
  Result<TomlTable> table(std::string_view key) const;
  // Index into `choices`.
  Result<std::size_t> choice(std::string_view key,
                             std::initializer_list<std::string_view> choices) const;
  // Arrays of at most `max` items; empty when `key` is absent.
  Result<std::vector<TomlString>> strings(std::string_view key, std::size_t max) const;
  Result<std::vector<TomlTable>> tables(std::string_view key, std::size_t max) const;
  // A value or an array of at most `max` of them, each a text as text() takes it, a whole number
  // (in decimal) or true or false; empty when `key` is absent.
  Result<std::vector<TomlString>> values(std::string_view key, std::size_t max) const;

 private:
  friend class TomlDocument;
  TomlTable(const void* table, const std::string* file) : table_(table), file_(file) {}

  const void* table_;  // toml::table: the library's header stays in one source file
  const std::string* file_;
};

class TomlDocument {
 public:
  static Result<TomlDocument> parse(std::string_view text, std::string_view file);
  TomlDocument(TomlDocument&&) noexcept;
  ~TomlDocument();

  TomlTable root() const;

 private:
  struct Data;
  explicit TomlDocument(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

}  // namespace vmm
