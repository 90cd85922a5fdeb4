#include "vmm/core/mangled_name.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace vmm {
namespace {

// A symbol that is read from its front.
struct Cursor {
  std::string_view left;

  bool take(std::string_view word) {
    if (!left.starts_with(word)) return false;
    left.remove_prefix(word.size());
    return true;
  }
  // One of these letters.
  std::optional<char> take_any(std::string_view letters) {
    if (left.empty() || letters.find(left.front()) == letters.npos) return std::nullopt;
    const char letter = left.front();
    left.remove_prefix(1);
    return letter;
  }
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// <source-name>: its length and as many letters.
std::optional<std::string_view> take_source_name(Cursor& cursor) {
  std::size_t length = 0;
  while (!cursor.left.empty() && is_digit(cursor.left.front())) {
    length = length * 10 + static_cast<std::size_t>(cursor.left.front() - '0');
    cursor.left.remove_prefix(1);
    if (length > cursor.left.size()) return std::nullopt;
  }
  if (length == 0) return std::nullopt;
  const std::string_view name = cursor.left.substr(0, length);
  cursor.left.remove_prefix(length);
  return name;
}

// Rust's own escapes, and "..", which stands for "::".
std::string rust_text(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kEscapes[] = {
      {"$LT$", "<"},  {"$GT$", ">"},   {"$RF$", "&"},  {"$BP$", "*"},  {"$LP$", "("},
      {"$RP$", ")"},  {"$C$", ","},    {"$SP$", "@"},  {"$u20$", " "}, {"$u27$", "'"},
      {"$u5b$", "["}, {"$u5d$", "]"},  {"$u7b$", "{"}, {"$u7d$", "}"}, {"$u3b$", ";"},
      {"$u2b$", "+"}, {"$u22$", "\""}, {"..", "::"}};
  Cursor cursor{name};
  if (name.starts_with("_$")) cursor.left.remove_prefix(1);
  std::string text;
  while (!cursor.left.empty()) {
    const auto* escape = std::find_if(std::begin(kEscapes), std::end(kEscapes),
                                      [&](const auto& e) { return cursor.take(e.first); });
    if (escape != std::end(kEscapes)) {
      text += escape->second;
    } else {
      text += cursor.left.front();
      cursor.left.remove_prefix(1);
    }
  }
  return text;
}

bool is_rust_hash(std::string_view name) {
  return name.size() == 17 && name.front() == 'h' &&
         name.find_first_not_of("0123456789abcdef", 1) == name.npos;
}

std::string plain(std::string_view name) {
  if (name.starts_with("_GLOBAL__N_")) return "(anonymous namespace)";
  return rust_text(name);
}

// <nested-name> behind its N, up to its E.
std::optional<std::string> take_nested_name(Cursor& cursor) {
  while (cursor.take_any("rVKRO")) {
  }
  std::string text = cursor.take("St") ? "std" : "";
  std::string last = text;
  while (!cursor.take("E")) {
    const auto special = cursor.take_any("CD");
    if (special) {
      // A constructor or destructor: of the name before, and the end of this one.
      if (last.empty() || !cursor.take_any("0123") || !cursor.left.starts_with("E"))
        return std::nullopt;
      if (special == 'D') last = "~" + last;
    } else {
      cursor.take("L");
      const auto name = take_source_name(cursor);
      if (!name) return std::nullopt;
      if (is_rust_hash(*name) && !text.empty() && cursor.left.starts_with("E")) continue;
      last = plain(*name);
    }
    if (!text.empty()) text += "::";
    text += last;
  }
  if (text.empty()) return std::nullopt;
  return text;
}

std::optional<std::string> take_name(Cursor& cursor) {
  if (cursor.take("N")) return take_nested_name(cursor);
  const bool of_std = cursor.take("St");
  cursor.take("L");
  const auto name = take_source_name(cursor);
  if (!name) return std::nullopt;
  return (of_std ? "std::" : "") + plain(*name);
}

}  // namespace

std::string readable_name(std::string_view symbol) {
  Cursor cursor{symbol};
  if (!cursor.take("_Z")) return std::string(symbol);
  auto name = take_name(cursor);
  if (!name || cursor.left.starts_with("I")) return std::string(symbol);
  // What GCC and LLVM add for parts and copies of a function: ".cold", ".constprop.0".
  const std::size_t dot = cursor.left.find('.');
  if (dot != cursor.left.npos) *name += cursor.left.substr(dot);
  return *name;
}

}  // namespace vmm
