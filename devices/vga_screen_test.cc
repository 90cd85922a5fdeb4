#include "devices/vga_screen.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace vmm {
namespace {

void put(VgaSnapshot& screen, unsigned column, unsigned row, std::string_view text,
         std::uint8_t attribute = 0x07) {
  for (const char c : text)
    screen.cells[row * screen.columns + column++] = {static_cast<std::uint8_t>(c), attribute};
}

TEST(VgaScreen, text_is_trimmed_on_the_right_and_below) {
  VgaSnapshot screen;
  put(screen, 2, 1, "two  words   ");
  EXPECT_EQ(render_text(screen), "\n  two  words\n");
}

TEST(VgaScreen, a_blank_screen_is_no_text) {
  VgaSnapshot screen;
  EXPECT_TRUE(is_blank(screen));
  EXPECT_EQ(render_text(screen), "");
  for (VgaCell& cell : screen.cells) cell = {0x20, 0x1f};
  EXPECT_TRUE(is_blank(screen));
  screen.cells[1999] = {'.', 0x07};
  EXPECT_FALSE(is_blank(screen));
}

TEST(VgaScreen, a_full_row_keeps_its_width) {
  VgaSnapshot screen;
  put(screen, 0, 0, std::string(80, '#'));
  put(screen, 0, 24, "end");
  EXPECT_EQ(render_text(screen), std::string(80, '#') + std::string(24, '\n') + "end\n");
}

TEST(VgaScreen, code_page_437_becomes_utf_8) {
  VgaSnapshot screen;
  put(screen, 0, 0, "\x01\x7f\x80\xb0\xc9\xcd\xbb\xe1\xfe");
  EXPECT_EQ(render_text(screen), "☺⌂Ç░╔═╗ß■\n");
}

TEST(VgaScreen, every_character_is_one_code_point) {
  for (unsigned i = 0; i < 256; ++i) {
    const std::string_view text = cp437_utf8(static_cast<std::uint8_t>(i));
    unsigned starts = 0;
    for (const char c : text) starts += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
    EXPECT_EQ(starts, 1u) << i;
    EXPECT_GE(static_cast<unsigned char>(text[0]), 0x20) << "no control characters";
    if (i >= 0x20 && i < 0x7f) {
      EXPECT_EQ(text, std::string(1, static_cast<char>(i)));
    }
  }
}

TEST(VgaScreen, ansi_translates_the_colour_order) {
  VgaSnapshot screen;
  screen.columns = 3;
  screen.rows = 1;
  screen.cells = {{'b', 0x01}, {'y', 0x4e}, {'y', 0x4e}};
  // Blue on black, then yellow on red without repeating it.
  EXPECT_EQ(render_ansi(screen), "\x1b[?25l\x1b[1;1H\x1b[0;34;40mb\x1b[0;93;41myy\x1b[0m");
}

TEST(VgaScreen, ansi_blinks_or_brightens_by_the_mode) {
  VgaSnapshot screen;
  screen.columns = 1;
  screen.rows = 1;
  screen.cells = {{'x', 0x97}};
  EXPECT_NE(render_ansi(screen).find("\x1b[0;5;37;44mx"), std::string::npos);
  screen.blink = false;
  EXPECT_NE(render_ansi(screen).find("\x1b[0;37;104mx"), std::string::npos);
}

TEST(VgaScreen, ansi_ends_with_the_cursor_where_the_guest_has_it) {
  VgaSnapshot screen;
  screen.cursor = {.visible = true, .column = 4, .row = 9, .first_line = 13, .last_line = 14};
  const std::string text = render_ansi(screen);
  EXPECT_TRUE(text.ends_with("\x1b[10;5H\x1b[?25h"));
  EXPECT_EQ(text.find('\n'), std::string::npos) << "a newline in the last row would scroll";
}

}  // namespace
}  // namespace vmm
