#include "devices/vga_png.h"

#include <gtest/gtest.h>
#include <png.h>

#include <algorithm>
#include <string>

#include "devices/vga_font.h"

namespace vmm {
namespace {

struct Picture {
  unsigned width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
  VgaColor at(unsigned x, unsigned y) const {
    const std::size_t i = (static_cast<std::size_t>(y) * width + x) * 3;
    return {rgb[i], rgb[i + 1], rgb[i + 2]};
  }
};

Picture decode(const std::vector<std::uint8_t>& png) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  EXPECT_NE(png_image_begin_read_from_memory(&image, png.data(), png.size()), 0) << image.message;
  image.format = PNG_FORMAT_RGB;
  Picture picture{image.width, image.height, std::vector<std::uint8_t>(PNG_IMAGE_SIZE(image))};
  EXPECT_NE(png_image_finish_read(&image, nullptr, picture.rgb.data(), 0, nullptr), 0)
      << image.message;
  return picture;
}

class VgaPngTest : public testing::Test {
 protected:
  VgaPngTest() {
    for (unsigned i = 0; i < 16; ++i) {
      const auto shade = static_cast<std::uint8_t>(i * 16);
      screen.palette[i] = {shade, static_cast<std::uint8_t>(255 - shade), 7};
    }
  }
  Picture render() {
    const auto png = render_png(screen);
    EXPECT_TRUE(png.has_value());
    return decode(*png);
  }
  // The dots of one cell, '#' where `ink` is.
  static std::string dots(const Picture& picture, unsigned x, unsigned y, VgaColor ink) {
    std::string text;
    for (unsigned line = 0; line < 16; ++line) {
      for (unsigned dot = 0; dot < 9; ++dot)
        text += picture.at(x + dot, y + line) == ink ? '#' : '.';
      text += '\n';
    }
    return text;
  }
  VgaSnapshot screen;
};

TEST_F(VgaPngTest, mode_3_is_720_by_400) {
  const Picture picture = render();
  EXPECT_EQ(picture.width, 720u);
  EXPECT_EQ(picture.height, 400u);
}

TEST_F(VgaPngTest, a_letter_has_its_shape_and_colours) {
  screen.cells[2 * 80 + 3] = {'T', 0x1e};
  const Picture picture = render();
  EXPECT_EQ(dots(picture, 27, 32, screen.palette[0x0e]),
            ".........\n"
            ".........\n"
            "########.\n"
            "...##....\n"
            "...##....\n"
            "...##....\n"
            "...##....\n"
            "...##....\n"
            "...##....\n"
            "...##....\n"
            "...##....\n"
            "...##....\n"
            ".........\n"
            ".........\n"
            ".........\n"
            ".........\n");
  EXPECT_EQ(picture.at(27, 32), screen.palette[1]) << "the background";
  EXPECT_EQ(picture.at(35, 34), screen.palette[1]) << "the ninth dot";
  EXPECT_EQ(picture.at(36, 32), screen.palette[0]) << "the neighbour";
}

TEST_F(VgaPngTest, line_characters_meet_across_the_ninth_dot) {
  screen.cells[0] = {0xc4, 0x0f};  // horizontal line
  screen.cells[1] = {0xdb, 0x0f};  // full block
  screen.cells[2] = {0x5f, 0x0f};  // the underscore is not a line character
  const Picture picture = render();
  const VgaColor ink = screen.palette[15];
  unsigned lines = 0;
  for (unsigned y = 0; y < 16; ++y) {
    EXPECT_EQ(picture.at(7, y), picture.at(8, y));
    lines += picture.at(8, y) == ink ? 1 : 0;
    for (unsigned x = 9; x < 18; ++x) EXPECT_EQ(picture.at(x, y), ink);
    EXPECT_EQ(picture.at(26, y), screen.palette[0]);
  }
  EXPECT_GE(lines, 1u);
  EXPECT_LE(lines, 3u);
  screen.line_graphics = false;
  EXPECT_EQ(render().at(17, 5), screen.palette[0]);
}

TEST_F(VgaPngTest, bit_7_brightens_the_background_only_without_blinking) {
  screen.cells[0] = {' ', 0x97};
  EXPECT_EQ(render().at(4, 4), screen.palette[1]);
  screen.blink = false;
  EXPECT_EQ(render().at(4, 4), screen.palette[9]);
}

TEST_F(VgaPngTest, the_cursor_is_drawn_in_the_foreground_of_its_cell) {
  screen.cells[81] = {' ', 0x0c};
  screen.cursor = {.visible = true, .column = 1, .row = 1, .first_line = 13, .last_line = 14};
  const Picture picture = render();
  for (unsigned y = 0; y < 16; ++y)
    for (unsigned x = 9; x < 18; ++x)
      EXPECT_EQ(picture.at(x, 16 + y), screen.palette[y == 13 || y == 14 ? 12 : 0])
          << x << ' ' << y;
  screen.cursor.visible = false;
  EXPECT_EQ(render().at(9, 29), screen.palette[0]);
}

TEST_F(VgaPngTest, the_cursor_is_scaled_from_other_character_heights) {
  screen.char_height = 8;
  screen.cells[0] = {' ', 0x0c};
  screen.cursor = {.visible = true, .column = 0, .row = 0, .first_line = 6, .last_line = 7};
  const Picture picture = render();
  EXPECT_EQ(picture.at(0, 11), screen.palette[0]);
  for (unsigned y = 12; y < 16; ++y) EXPECT_EQ(picture.at(0, y), screen.palette[12]);
}

TEST_F(VgaPngTest, a_screen_that_is_off_is_black) {
  screen.cells[0] = {0xdb, 0x0f};
  screen.display_enabled = false;
  const Picture picture = render();
  EXPECT_TRUE(std::all_of(picture.rgb.begin(), picture.rgb.end(),
                          [](std::uint8_t byte) { return byte == 0; }));
}

TEST_F(VgaPngTest, the_largest_and_the_smallest_screen_can_be_drawn) {
  for (const auto& [columns, rows] :
       {std::pair{1u, 1u}, std::pair{VgaSnapshot::kMaxColumns, VgaSnapshot::kMaxRows}}) {
    screen.columns = columns;
    screen.rows = rows;
    screen.cells.assign(static_cast<std::size_t>(columns) * rows, VgaCell{0xb1, 0x5a});
    const Picture picture = render();
    EXPECT_EQ(picture.width, columns * 9);
    EXPECT_EQ(picture.height, rows * 16);
  }
}

TEST(VgaFont, every_character_that_shows_has_a_glyph) {
  for (unsigned i = 0; i < 256; ++i) {
    const auto* glyph = &kVgaFont[i * 16];
    const bool empty = std::all_of(glyph, glyph + 16, [](std::uint8_t line) { return line == 0; });
    EXPECT_EQ(empty, i == 0 || i == 0x20 || i == 0xff) << i;
  }
}

TEST(VgaFont, no_two_characters_look_the_same) {
  for (unsigned i = 0; i < 256; ++i)
    for (unsigned j = i + 1; j < 256; ++j) {
      const bool both_empty = (i == 0 || i == 0x20) && (j == 0x20 || j == 0xff);
      if (both_empty) continue;
      EXPECT_FALSE(std::equal(&kVgaFont[i * 16], &kVgaFont[i * 16] + 16, &kVgaFont[j * 16]))
          << i << " and " << j;
    }
}

TEST(VgaFont, blocks_and_lines_fill_their_cells) {
  for (unsigned line = 0; line < 16; ++line) {
    EXPECT_EQ(kVgaFont[0xdb * 16 + line], 0xff);
    EXPECT_EQ(kVgaFont[0xdc * 16 + line], line < 8 ? 0x00 : 0xff);
    EXPECT_EQ(kVgaFont[0xdd * 16 + line], 0xf0);
    EXPECT_EQ(kVgaFont[0xde * 16 + line], 0x0f);
    EXPECT_EQ(kVgaFont[0xdf * 16 + line], line < 8 ? 0xff : 0x00);
    EXPECT_NE(kVgaFont[0xb3 * 16 + line], 0) << "a vertical line from top to bottom";
    EXPECT_NE(kVgaFont[0xba * 16 + line], 0);
  }
}

}  // namespace
}  // namespace vmm
