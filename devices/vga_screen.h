// What a text screen shows, as a value, and its forms for people: plain text, a terminal. The PNG
// is in vga_png.h.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace vmm {

struct VgaCell {
  std::uint8_t character = 0;  // code page 437
  std::uint8_t attribute = 0;  // bits 3:0 foreground, 6:4 background, 7 blink or bright background
  bool operator==(const VgaCell&) const = default;
};

struct VgaColor {
  std::uint8_t red = 0, green = 0, blue = 0;
  bool operator==(const VgaColor&) const = default;
};

struct VgaCursor {
  bool visible = false;  // switched on, of a shape that shows, and within the screen
  unsigned column = 0;   // both 0 when not within the screen
  unsigned row = 0;
  unsigned first_line = 0;  // scan lines of the character cell, inclusive, below char_height
  unsigned last_line = 0;
  bool operator==(const VgaCursor&) const = default;
};

struct VgaSnapshot {
  static constexpr unsigned kMaxColumns = 160;
  static constexpr unsigned kMaxRows = 100;

  unsigned columns = 80;      // 1 to kMaxColumns
  unsigned rows = 25;         // 1 to kMaxRows
  unsigned char_height = 16;  // scan lines per character row, 1 to 32
  unsigned char_width = 9;    // 8 or 9 dots
  std::vector<VgaCell> cells = std::vector<VgaCell>(80 * 25);  // rows * columns, row by row
  VgaCursor cursor;
  std::array<VgaColor, 16> palette{};
  bool blink = true;            // attribute bit 7 means blinking, not a bright background
  bool line_graphics = true;    // the ninth dot of C0h-DFh repeats the eighth
  bool text_mode = true;        // false in a graphics mode, where the cells mean nothing
  bool display_enabled = true;  // false while the guest has the picture switched off

  // Row and column must be within the screen.
  const VgaCell& cell(unsigned column, unsigned row) const {
    return cells[static_cast<std::size_t>(row) * columns + column];
  }
  bool operator==(const VgaSnapshot&) const = default;
};

// The character of code page 437 in UTF-8; 00h and FFh are spaces, 01h-1Fh the little pictures.
const char* cp437_utf8(std::uint8_t character);

// True when no cell has a visible character (00h, 20h and FFh are invisible).
bool is_blank(const VgaSnapshot& screen);

// UTF-8 lines, each ended by a newline, without trailing spaces and without trailing empty lines;
// "" for a blank screen.
std::string render_text(const VgaSnapshot& screen);

// A repaint of the whole screen for an ANSI terminal of at least that size: 16 colours by SGR,
// blinking, and the cursor where the guest has it. It starts at the top left corner.
std::string render_ansi(const VgaSnapshot& screen);

}  // namespace vmm
