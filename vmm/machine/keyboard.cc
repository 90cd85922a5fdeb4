#include "vmm/machine/keyboard.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

using Codes = std::vector<std::uint8_t>;

// Scan codes of set 1 (IBM PS/2 Technical Reference, keyboard).
constexpr std::uint8_t kEsc = 0x01;
constexpr std::uint8_t kBackspace = 0x0e;
constexpr std::uint8_t kTab = 0x0f;
constexpr std::uint8_t kEnter = 0x1c;
constexpr std::uint8_t kCtrl = 0x1d;
constexpr std::uint8_t kShift = 0x2a;
constexpr std::uint8_t kAlt = 0x38;
constexpr std::uint8_t kExtended = 0xe0;
constexpr std::uint8_t kRelease = 0x80;

constexpr std::uint8_t kCtrlA = 1;
constexpr std::uint8_t kEscape = 0x1b;
constexpr std::uint8_t kDelete = 0x7f;

// The keys of a US keyboard in the order of their codes from `first` on, without and with Shift.
struct Row {
  std::uint8_t first;
  std::string_view plain;
  std::string_view shifted;
};
constexpr std::array<Row, 5> kRows = {{
    {0x02, "1234567890-=", "!@#$%^&*()_+"},
    {0x10, "qwertyuiop[]", "QWERTYUIOP{}"},
    {0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    {0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    {0x39, " ", ""},
}};

Codes press(std::uint8_t code) { return {code, static_cast<std::uint8_t>(code | kRelease)}; }

Codes press_extended(std::uint8_t code) {
  return {kExtended, code, kExtended, static_cast<std::uint8_t>(code | kRelease)};
}

// `key` with `modifier` held.
Codes with(std::uint8_t modifier, const Codes& key) {
  Codes codes = {modifier};
  for (const std::uint8_t code : key) codes.push_back(code);
  codes.push_back(modifier | kRelease);
  return codes;
}

// Empty for what no key of this keyboard makes.
Codes key_of(std::uint8_t byte) {
  switch (byte) {
    case '\r':
    case '\n':
      return press(kEnter);
    case '\t':
      return press(kTab);
    case '\b':
    case kDelete:
      return press(kBackspace);
    case kEscape:
      return press(kEsc);
    default:
      break;
  }
  // Ctrl-A to Ctrl-Z, and Ctrl with the four characters behind Z but Esc.
  if (byte < 0x20) {
    const Codes letter = key_of(static_cast<std::uint8_t>(byte < 0x1b ? byte + 0x60 : byte + 0x40));
    return letter.empty() ? letter : with(kCtrl, letter);
  }
  for (const Row& row : kRows) {
    const char c = static_cast<char>(byte);
    if (const std::size_t at = row.plain.find(c); at != row.plain.npos)
      return press(static_cast<std::uint8_t>(row.first + at));
    if (const std::size_t at = row.shifted.find(c); at != row.shifted.npos)
      return with(kShift, press(static_cast<std::uint8_t>(row.first + at)));
  }
  return {};
}

// What stands behind Esc [ or Esc O, up to its last character.
struct Sequence {
  std::string_view text;
  std::uint8_t code;
  bool extended;
};
constexpr std::array<Sequence, 42> kSequences = {{
    {"[A", 0x48, true},    {"[B", 0x50, true},    {"[C", 0x4d, true},    {"[D", 0x4b, true},
    {"OA", 0x48, true},    {"OB", 0x50, true},    {"OC", 0x4d, true},    {"OD", 0x4b, true},
    {"[H", 0x47, true},    {"[F", 0x4f, true},    {"OH", 0x47, true},    {"OF", 0x4f, true},
    {"[1~", 0x47, true},   {"[4~", 0x4f, true},   {"[7~", 0x47, true},   {"[8~", 0x4f, true},
    {"[2~", 0x52, true},   {"[3~", 0x53, true},   {"[5~", 0x49, true},   {"[6~", 0x51, true},
    {"OP", 0x3b, false},   {"OQ", 0x3c, false},   {"OR", 0x3d, false},   {"OS", 0x3e, false},
    {"[[A", 0x3b, false},  {"[[B", 0x3c, false},  {"[[C", 0x3d, false},  {"[[D", 0x3e, false},
    {"[[E", 0x3f, false},  {"[11~", 0x3b, false}, {"[12~", 0x3c, false}, {"[13~", 0x3d, false},
    {"[14~", 0x3e, false}, {"[15~", 0x3f, false}, {"[17~", 0x40, false}, {"[18~", 0x41, false},
    {"[19~", 0x42, false}, {"[20~", 0x43, false}, {"[21~", 0x44, false}, {"[23~", 0x57, false},
    {"[24~", 0x58, false}, {"[Z", kTab, false},
}};

// The length of the escape sequence that `text` (what is behind Esc) begins with; 0 for none.
std::size_t sequence_length(std::string_view text) {
  if (text.size() < 2 || (text[0] != '[' && text[0] != 'O')) return 0;
  if (text[0] == 'O' || text.starts_with("[["))
    return std::min<std::size_t>(text[0] == 'O' ? 2 : 3, text.size());
  // Parameters, then one character from '@' on (ECMA-48 section 5.4).
  for (std::size_t at = 1; at < text.size(); ++at)
    if (text[at] >= '@' && text[at] <= '~') return at + 1;
  return text.size();
}

}  // namespace

TerminalKeys::Event TerminalKeys::take(std::span<const std::uint8_t> bytes,
                                       std::vector<Codes>& keys) {
  const auto add = [&keys](Codes key) {
    if (!key.empty()) keys.push_back(std::move(key));
  };
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    const std::uint8_t byte = bytes[at];
    if (prefix_seen_) {
      prefix_seen_ = false;
      if (byte == 'x' || byte == 'X') return Event::Quit;
      if (byte == kCtrlA) add(key_of(byte));
      continue;
    }
    if (byte == kCtrlA) {
      prefix_seen_ = true;
      continue;
    }
    const std::string_view rest(reinterpret_cast<const char*>(bytes.data()) + at + 1,
                                bytes.size() - at - 1);
    if (byte != kEscape || rest.empty()) {
      add(key_of(byte));
      continue;
    }
    const std::size_t length = sequence_length(rest);
    if (length == 0) {
      // Alt sends Esc in front of the character.
      add(with(kAlt, key_of(bytes[at + 1])));
      ++at;
      continue;
    }
    for (const Sequence& sequence : kSequences)
      if (sequence.text == rest.substr(0, length))
        add(sequence.extended ? press_extended(sequence.code) : press(sequence.code));
    at += length;
  }
  return keys.empty() ? Event::None : Event::Keys;
}

bool Keyboard::possible() {
  return is_foreground_terminal(STDIN_FILENO) && is_foreground_terminal(STDOUT_FILENO);
}

Result<std::unique_ptr<Keyboard>> Keyboard::open() {
  if (!possible()) return std::unique_ptr<Keyboard>();
  VMM_TRY(enter_raw_mode(STDIN_FILENO));
  return std::unique_ptr<Keyboard>(new Keyboard(STDIN_FILENO));
}

TerminalKeys::Event Keyboard::read(std::vector<Codes>& keys) {
  std::array<std::uint8_t, 512> bytes{};
  const ssize_t n = ::read(fd_, bytes.data(), bytes.size());
  if (n > 0) return keys_.take(std::span(bytes).first(static_cast<std::size_t>(n)), keys);
  if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EIO)) fd_ = -1;
  return TerminalKeys::Event::None;
}

}  // namespace vmm
