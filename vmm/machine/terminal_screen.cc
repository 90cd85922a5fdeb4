#include "vmm/machine/terminal_screen.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace vmm {
namespace spec {
namespace {

constexpr std::uint8_t BS = 0x08;
constexpr std::uint8_t HT = 0x09;
constexpr std::uint8_t LF = 0x0a;
constexpr std::uint8_t CR = 0x0d;
constexpr std::uint8_t ESC = 0x1b;
constexpr std::uint8_t BEL = 0x07;

}  // namespace
}  // namespace spec

namespace {

// A VGA's default colours, in its order: blue is 1, red 4.
constexpr std::array<VgaColor, 16> kPalette = {{{0x00, 0x00, 0x00},
                                                {0x00, 0x00, 0xaa},
                                                {0x00, 0xaa, 0x00},
                                                {0x00, 0xaa, 0xaa},
                                                {0xaa, 0x00, 0x00},
                                                {0xaa, 0x00, 0xaa},
                                                {0xaa, 0x55, 0x00},
                                                {0xaa, 0xaa, 0xaa},
                                                {0x55, 0x55, 0x55},
                                                {0x55, 0x55, 0xff},
                                                {0x55, 0xff, 0x55},
                                                {0x55, 0xff, 0xff},
                                                {0xff, 0x55, 0x55},
                                                {0xff, 0x55, 0xff},
                                                {0xff, 0xff, 0x55},
                                                {0xff, 0xff, 0xff}}};

// A terminal counts red as 1 and blue as 4.
constexpr std::uint8_t vga_color(unsigned ansi) {
  return static_cast<std::uint8_t>((ansi & 2) | (ansi & 1) << 2 | (ansi & 4) >> 2);
}

std::uint32_t decode_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  if (text.size() == 1) return byte(0);
  if (text.size() == 2) return (byte(0) & 0x1fU) << 6 | (byte(1) & 0x3fU);
  return (byte(0) & 0x0fU) << 12 | (byte(1) & 0x3fU) << 6 | (byte(2) & 0x3fU);
}

// Where code page 437 has a character beyond ASCII; '?' for what it lacks.
std::uint8_t to_cp437(std::uint32_t code_point) {
  static const std::map<std::uint32_t, std::uint8_t> table = [] {
    std::map<std::uint32_t, std::uint8_t> made;
    for (unsigned character = 0x80; character < 0xff; ++character) {
      const auto narrow = static_cast<std::uint8_t>(character);
      made.emplace(decode_utf8(cp437_utf8(narrow)), narrow);
    }
    // The firmware's arrows and triangles.
    for (unsigned character = 0x01; character < 0x20; ++character) {
      const auto narrow = static_cast<std::uint8_t>(character);
      made.emplace(decode_utf8(cp437_utf8(narrow)), narrow);
    }
    return made;
  }();
  const auto found = table.find(code_point);
  return found != table.end() ? found->second : static_cast<std::uint8_t>('?');
}

}  // namespace

TerminalScreen::TerminalScreen(ByteSink& sink) : sink_(sink) {
  screen_.columns = kColumns;
  screen_.rows = kRows;
  screen_.cells.assign(std::size_t{kColumns} * kRows, {' ', attribute()});
  screen_.palette = kPalette;
  screen_.blink = false;
  screen_.cursor = {.visible = true, .first_line = 13, .last_line = 14};
}

bool TerminalScreen::put(std::uint8_t byte) {
  if (!sink_.put(byte)) return false;
  draw(byte);
  screen_.cursor.column = std::min(column_, kColumns - 1);
  screen_.cursor.row = row_;
  return true;
}

void TerminalScreen::draw(std::uint8_t byte) {
  switch (state_) {
    case State::Text:
      if (byte == spec::ESC)
        state_ = State::Escape;
      else
        text(byte);
      return;
    case State::Escape:
      parameters_ = {};
      parameter_count_ = 0;
      private_ = false;
      string_end_ = 0;
      if (byte == '[')
        state_ = State::Control;
      else if (byte == ']' || byte == 'P' || byte == '_' || byte == '^')
        state_ = State::String;  // OSC and the like: to BEL or ESC backslash
      else
        state_ = State::Text;
      return;
    case State::Control:
      control(byte);
      return;
    case State::String:
      if (byte == spec::BEL || (string_end_ == spec::ESC && byte == '\\')) state_ = State::Text;
      string_end_ = byte;
      return;
  }
}

// Parameters are digits between semicolons; a final byte is 40h to 7Eh (ECMA-48 5.4).
void TerminalScreen::control(std::uint8_t byte) {
  constexpr unsigned kMaxValue = 9999;
  if (byte >= '0' && byte <= '9') {
    if (parameter_count_ == 0) parameter_count_ = 1;
    unsigned& value = parameters_[parameter_count_ - 1];
    value = std::min(value * 10 + (byte - '0'), kMaxValue);
  } else if (byte == ';') {
    parameter_count_ = std::min(std::max<std::size_t>(parameter_count_, 1) + 1, kMaxParameters);
  } else if (byte >= '<' && byte <= '?') {
    private_ = true;
  } else if (byte >= 0x40 && byte <= 0x7e) {
    state_ = State::Text;
    if (!private_) run_control(byte);
  } else if (byte == spec::ESC) {
    state_ = State::Escape;
  } else if (byte < 0x20) {
    state_ = State::Text;  // no sequence has these
  }
}

// A parameter that is left out, or 0, means `otherwise`.
unsigned TerminalScreen::parameter(std::size_t index, unsigned otherwise) const {
  const unsigned value = index < parameter_count_ ? parameters_[index] : 0;
  return value != 0 ? value : otherwise;
}

void TerminalScreen::run_control(std::uint8_t final_byte) {
  const unsigned at = row_ * kColumns + std::min(column_, kColumns - 1);
  const unsigned count = parameter(0, 1);
  const unsigned column = std::min(column_, kColumns - 1);
  switch (final_byte) {
    case 'A':
      return move_to(column, row_ - std::min(row_, count));
    case 'B':
      return move_to(column, row_ + count);
    case 'C':
      return move_to(column + count, row_);
    case 'D':
      return move_to(column - std::min(column, count), row_);
    case 'G':
      return move_to(count - 1, row_);
    case 'd':
      return move_to(column, count - 1);
    case 'H':
    case 'f':
      return move_to(parameter(1, 1) - 1, count - 1);
    case 'J':
      if (parameter(0, 0) == 0) return erase(at, kColumns * kRows);
      if (parameter(0, 0) == 1) return erase(0, at + 1);
      return erase(0, kColumns * kRows);
    case 'K':
      if (parameter(0, 0) == 0) return erase(at, (row_ + 1) * kColumns);
      if (parameter(0, 0) == 1) return erase(row_ * kColumns, at + 1);
      return erase(row_ * kColumns, (row_ + 1) * kColumns);
    case 'm':
      return set_rendition();
    default:
      return;
  }
}

void TerminalScreen::set_rendition() {
  const std::size_t count = std::max<std::size_t>(parameter_count_, 1);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned value = parameters_[i];
    if (value == 0) {
      foreground_ = 7;
      background_ = 0;
      bright_ = reverse_ = false;
    } else if (value == 1 || value == 22) {
      bright_ = value == 1;
    } else if (value == 7 || value == 27) {
      reverse_ = value == 7;
    } else if (value >= 30 && value <= 37) {
      foreground_ = vga_color(value - 30);
    } else if (value == 39) {
      foreground_ = 7;
    } else if (value >= 40 && value <= 47) {
      background_ = vga_color(value - 40);
    } else if (value == 49) {
      background_ = 0;
    } else if (value >= 90 && value <= 97) {
      foreground_ = static_cast<std::uint8_t>(vga_color(value - 90) | 8);
    } else if (value >= 100 && value <= 107) {
      background_ = static_cast<std::uint8_t>(vga_color(value - 100) | 8);
    }
  }
}

std::uint8_t TerminalScreen::attribute() const {
  const auto front = static_cast<std::uint8_t>(foreground_ | (bright_ ? 8 : 0));
  return reverse_ ? static_cast<std::uint8_t>(background_ | front << 4)
                  : static_cast<std::uint8_t>(front | background_ << 4);
}

void TerminalScreen::move_to(unsigned column, unsigned row) {
  column_ = std::min(column, kColumns - 1);
  row_ = std::min(row, kRows - 1);
}

void TerminalScreen::erase(unsigned from, unsigned to) {
  std::fill(screen_.cells.begin() + from, screen_.cells.begin() + to, VgaCell{' ', attribute()});
}

void TerminalScreen::line_feed() {
  if (row_ + 1 < kRows) {
    ++row_;
    return;
  }
  std::move(screen_.cells.begin() + kColumns, screen_.cells.end(), screen_.cells.begin());
  erase((kRows - 1) * kColumns, kRows * kColumns);
}

void TerminalScreen::text(std::uint8_t byte) {
  if (more_bytes_ > 0) {
    if ((byte & 0xc0) == 0x80) {
      code_point_ = code_point_ << 6 | (byte & 0x3fU);
      if (--more_bytes_ == 0) put_code_point(code_point_);
      return;
    }
    more_bytes_ = 0;  // no sequence after all
  }
  switch (byte) {
    case spec::BS:
      column_ -= std::min(column_, 1U);
      return;
    case spec::HT:
      return move_to((column_ / 8 + 1) * 8, row_);
    case spec::LF:
      return line_feed();
    case spec::CR:
      column_ = 0;
      return;
    default:
      break;
  }
  if (byte < 0x20 || byte == 0x7f) return;
  if (byte < 0x80) return put_character(byte);
  if ((byte & 0xe0) == 0xc0) {
    code_point_ = byte & 0x1f;
    more_bytes_ = 1;
  } else if ((byte & 0xf0) == 0xe0) {
    code_point_ = byte & 0x0f;
    more_bytes_ = 2;
  } else if ((byte & 0xf8) == 0xf0) {
    code_point_ = byte & 0x07;
    more_bytes_ = 3;
  } else {
    put_character(byte);
  }
}

void TerminalScreen::put_code_point(std::uint32_t code_point) {
  put_character(code_point >= 0x20 && code_point < 0x7f ? static_cast<std::uint8_t>(code_point)
                                                        : to_cp437(code_point));
}

void TerminalScreen::put_character(std::uint8_t character) {
  if (column_ == kColumns) {
    column_ = 0;
    line_feed();
  }
  screen_.cells[static_cast<std::size_t>(row_) * kColumns + column_] = {character, attribute()};
  ++column_;
}

}  // namespace vmm
