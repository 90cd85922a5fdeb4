#include "vmm/matrix/clean_text.h"

#include <cstdint>

namespace vmm {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

struct Character {
  std::size_t size = 1;
  std::uint32_t code = 0;
  bool valid = false;
};

// The character at the start of `text`, which is not empty. Of what is no UTF-8, one byte.
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {1, lead, true};
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return {};
  std::uint32_t code = lead & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3fu);
  }
  const bool overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
  if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {};
  return {size, code, true};
}

// C1 controls, separators of lines, marks and overrides of the writing direction, and what XML 1.0
// has no place for.
bool is_harmful(std::uint32_t code) {
  return (code >= 0x80 && code < 0xa0) || code == 0x200e || code == 0x200f || code == 0x61c ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
         code == 0xfeff || (code & 0xfffe) == 0xfffe;
}

void append_clean(std::string& to, const Character& character, std::string_view bytes) {
  if (!character.valid || is_harmful(character.code))
    to += kReplacement;
  else if (character.code < 0x20 || character.code == 0x7f)
    // As `cat -v` shows it; the pictures of Unicode (U+2400) are missing from many fonts.
    (to += '^') += static_cast<char>(character.code ^ 0x40);
  else
    to += bytes;
}

// How many bytes the terminal sequence at the start of `text` has; 0 when it is none. ECMA-48, 5.4
// and 5.6; a string such as a window's title is taken to end with its line at the latest.
std::size_t sequence_size(std::string_view text) {
  if (text.size() < 2 || text[0] != '\x1b') return 0;
  std::size_t i = 2;
  const char kind = text[1];
  if (kind == '[') {
    while (i < text.size() && text[i] >= 0x20 && text[i] <= 0x3f) ++i;
    if (i < text.size() && text[i] >= 0x40 && text[i] <= 0x7e) ++i;
    return i;
  }
  if (kind == ']' || kind == 'P' || kind == 'X' || kind == '^' || kind == '_') {
    while (i < text.size() && text[i] != '\a' && text[i] != '\n' && text[i] != '\x1b') ++i;
    if (i < text.size() && text[i] == '\a') return i + 1;
    if (i + 1 < text.size() && text[i] == '\x1b' && text[i + 1] == '\\') return i + 2;
    return i;
  }
  if (kind >= 0x20 && kind <= 0x2f) {
    while (i < text.size() && text[i] >= 0x20 && text[i] <= 0x2f) ++i;
    return i < text.size() && text[i] >= 0x30 && text[i] <= 0x7e ? i + 1 : i;
  }
  return kind >= 0x30 && kind <= 0x7e ? 2 : 0;
}

// Takes the last character off, but no end of a line.
void erase_last(std::string& text) {
  if (text.empty() || text.back() == '\n') return;
  while (!text.empty() && (static_cast<std::uint8_t>(text.back()) & 0xc0) == 0x80) text.pop_back();
  if (!text.empty() && text.back() != '\n') text.pop_back();
}

}  // namespace

std::string_view cut_text(std::string_view text, std::size_t max) {
  if (text.size() <= max) return text;
  std::size_t end = max;
  while (end > 0 && max - end < 3 && (static_cast<std::uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

std::string clean_line(std::string_view text, std::size_t max) {
  std::string result;
  while (!text.empty()) {
    const Character character = first_character(text);
    const std::string_view bytes = text.substr(0, character.size);
    text.remove_prefix(character.size);
    if (character.code == '\t' || character.code == '\n' || character.code == '\r')
      result += ' ';
    else
      append_clean(result, character, bytes);
    if (result.size() > max) return max < 3 ? "" : std::string(cut_text(result, max - 3)) + "...";
  }
  return result;
}

std::string clean_log(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    if (const std::size_t size = sequence_size(text); size != 0) {
      text.remove_prefix(size);
      continue;
    }
    const Character character = first_character(text);
    const std::string_view bytes = text.substr(0, character.size);
    text.remove_prefix(character.size);
    if (character.code == '\r' && character.valid) {
      // Consoles end their lines with CR LF, some with CR CR LF.
      if (!text.empty() && text.front() != '\n' && text.front() != '\r') result += '\n';
    } else if (character.code == '\b') {
      erase_last(result);
    } else if (character.code == '\n' || character.code == '\t') {
      result += bytes;
    } else {
      append_clean(result, character, bytes);
    }
  }
  return result;
}

}  // namespace vmm
