#include "devices/vga_screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace vmm {
namespace {

// clang-format off
constexpr std::array<const char*, 256> kCp437 = {
    " ", "☺", "☻", "♥", "♦", "♣", "♠", "•", "◘", "○", "◙", "♂", "♀", "♪", "♫", "☼",
    "►", "◄", "↕", "‼", "¶", "§", "▬", "↨", "↑", "↓", "→", "←", "∟", "↔", "▲", "▼",
    " ", "!", "\"", "#", "$", "%", "&", "'", "(", ")", "*", "+", ",", "-", ".", "/",
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", ":", ";", "<", "=", ">", "?",
    "@", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O",
    "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z", "[", "\\", "]", "^", "_",
    "`", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o",
    "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z", "{", "|", "}", "~", "⌂",
    "Ç", "ü", "é", "â", "ä", "à", "å", "ç", "ê", "ë", "è", "ï", "î", "ì", "Ä", "Å",
    "É", "æ", "Æ", "ô", "ö", "ò", "û", "ù", "ÿ", "Ö", "Ü", "¢", "£", "¥", "₧", "ƒ",
    "á", "í", "ó", "ú", "ñ", "Ñ", "ª", "º", "¿", "⌐", "¬", "½", "¼", "¡", "«", "»",
    "░", "▒", "▓", "│", "┤", "╡", "╢", "╖", "╕", "╣", "║", "╗", "╝", "╜", "╛", "┐",
    "└", "┴", "┬", "├", "─", "┼", "╞", "╟", "╚", "╔", "╩", "╦", "╠", "═", "╬", "╧",
    "╨", "╤", "╥", "╙", "╘", "╒", "╓", "╫", "╪", "┘", "┌", "█", "▄", "▌", "▐", "▀",
    "α", "ß", "Γ", "π", "Σ", "σ", "µ", "τ", "Φ", "Θ", "Ω", "δ", "∞", "φ", "ε", "∩",
    "≡", "±", "≥", "≤", "⌠", "⌡", "÷", "≈", "°", "∙", "·", "√", "ⁿ", "²", "■", " ",
};
// clang-format on

bool is_visible(const VgaCell& cell) {
  return cell.character != 0 && cell.character != 0x20 && cell.character != 0xff;
}

// VGA counts blue, green, red from bit 0; SGR counts red, green, blue.
unsigned sgr_color(unsigned color) { return ((color & 1) << 2) | (color & 2) | ((color & 4) >> 2); }

std::string sgr(std::uint8_t attribute, bool blink) {
  const unsigned foreground = attribute & 0x0f;
  const unsigned background = (attribute >> 4) & (blink ? 0x07u : 0x0fu);
  return fmt::format("\x1b[0;{}{};{}m", blink && (attribute & 0x80) != 0 ? "5;" : "",
                     (foreground & 8 ? 90 : 30) + sgr_color(foreground & 7),
                     (background & 8 ? 100 : 40) + sgr_color(background & 7));
}

}  // namespace

const char* cp437_utf8(std::uint8_t character) { return kCp437[character]; }

bool is_blank(const VgaSnapshot& screen) {
  return std::none_of(screen.cells.begin(), screen.cells.end(), is_visible);
}

std::string render_text(const VgaSnapshot& screen) {
  std::string text;
  std::size_t end = 0;  // of the last line that is not empty
  for (unsigned row = 0; row < screen.rows; ++row) {
    unsigned columns = screen.columns;
    while (columns > 0 && !is_visible(screen.cell(columns - 1, row))) --columns;
    for (unsigned column = 0; column < columns; ++column)
      text += cp437_utf8(screen.cell(column, row).character);
    text += '\n';
    if (columns > 0) end = text.size();
  }
  text.resize(end);
  return text;
}

std::string render_ansi(const VgaSnapshot& screen) {
  // The cursor is off while painting, and no row is ended by a newline, which could scroll.
  std::string text = "\x1b[?25l";
  for (unsigned row = 0; row < screen.rows; ++row) {
    fmt::format_to(std::back_inserter(text), "\x1b[{};1H", row + 1);
    int attribute = -1;
    for (unsigned column = 0; column < screen.columns; ++column) {
      const VgaCell& cell = screen.cell(column, row);
      if (attribute != cell.attribute) text += sgr(cell.attribute, screen.blink);
      attribute = cell.attribute;
      text += cp437_utf8(cell.character);
    }
    text += "\x1b[0m";
  }
  if (screen.cursor.visible)
    fmt::format_to(std::back_inserter(text), "\x1b[{};{}H\x1b[?25h", screen.cursor.row + 1,
                   screen.cursor.column + 1);
  return text;
}

}  // namespace vmm
