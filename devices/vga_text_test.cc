#include "devices/vga_text.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "devices/port_access.h"

namespace vmm {
namespace {

class VgaTextTest : public testing::Test {
 protected:
  std::vector<std::uint8_t> memory = std::vector<std::uint8_t>(VgaText::kWindowSize);
  VgaText vga{"vga", memory};

  std::uint8_t inb(unsigned port) { return in(vga, port - 0x3b0); }
  void outb(unsigned port, unsigned value) { out(vga, port - 0x3b0, value); }
  bool answers(unsigned port) {
    std::uint8_t data[] = {0};
    return vga.read(port - 0x3b0, data) == Access::Ok;
  }
  void crtc(unsigned index, unsigned value) {
    outb(0x3d4, index);
    outb(0x3d5, value);
  }
  void attribute(unsigned index, unsigned value) {
    inb(0x3da);
    outb(0x3c0, index);
    outb(0x3c0, value);
    outb(0x3c0, 0x20);
  }
  void put(unsigned cell, char character, unsigned attr = 0x07) {
    memory[0x18000 + cell * 2] = static_cast<std::uint8_t>(character);
    memory[0x18001 + cell * 2] = static_cast<std::uint8_t>(attr);
  }
  void put(unsigned cell, std::string_view text) {
    for (const char c : text) put(cell++, c);
  }
};

TEST_F(VgaTextTest, power_on_is_mode_3) {
  const VgaSnapshot screen = vga.snapshot();
  EXPECT_EQ(screen.columns, 80u);
  EXPECT_EQ(screen.rows, 25u);
  EXPECT_EQ(screen.char_height, 16u);
  EXPECT_EQ(screen.char_width, 9u);
  EXPECT_TRUE(screen.text_mode);
  EXPECT_TRUE(screen.display_enabled);
  EXPECT_TRUE(screen.blink);
  EXPECT_TRUE(screen.cursor.visible);
  EXPECT_EQ(screen.cursor.first_line, 0x0du);
  EXPECT_EQ(screen.cursor.last_line, 0x0eu);
  EXPECT_TRUE(is_blank(screen));
}

TEST_F(VgaTextTest, power_on_palette_is_the_standard_one) {
  const auto palette = vga.snapshot().palette;
  EXPECT_EQ(palette[0], (VgaColor{0x00, 0x00, 0x00}));
  EXPECT_EQ(palette[1], (VgaColor{0x00, 0x00, 0xaa}));
  EXPECT_EQ(palette[4], (VgaColor{0xaa, 0x00, 0x00}));
  EXPECT_EQ(palette[6], (VgaColor{0xaa, 0x55, 0x00})) << "brown, not dark yellow";
  EXPECT_EQ(palette[7], (VgaColor{0xaa, 0xaa, 0xaa}));
  EXPECT_EQ(palette[8], (VgaColor{0x55, 0x55, 0x55}));
  EXPECT_EQ(palette[12], (VgaColor{0xff, 0x55, 0x55}));
  EXPECT_EQ(palette[15], (VgaColor{0xff, 0xff, 0xff}));
}

TEST_F(VgaTextTest, memory_at_b8000h_is_the_screen) {
  put(0, 'A', 0x1f);
  put(80 * 24 + 79, 'Z', 0x4e);
  const VgaSnapshot screen = vga.snapshot();
  EXPECT_EQ(screen.cell(0, 0), (VgaCell{'A', 0x1f}));
  EXPECT_EQ(screen.cell(79, 24), (VgaCell{'Z', 0x4e}));
}

TEST_F(VgaTextTest, cursor_follows_the_crtc) {
  crtc(0x0e, 0x01);
  crtc(0x0f, 0x45);  // 325 = 4 * 80 + 5
  const VgaCursor cursor = vga.snapshot().cursor;
  EXPECT_EQ(cursor.row, 4u);
  EXPECT_EQ(cursor.column, 5u);
  EXPECT_TRUE(cursor.visible);
  outb(0x3d4, 0x0f);
  EXPECT_EQ(inb(0x3d5), 0x45);
}

TEST_F(VgaTextTest, cursor_hides_when_told) {
  crtc(0x0a, 0x2d);
  EXPECT_FALSE(vga.snapshot().cursor.visible);
  crtc(0x0a, 0x0f);
  crtc(0x0b, 0x0e);  // ends before it starts
  EXPECT_FALSE(vga.snapshot().cursor.visible);
  crtc(0x0a, 0x00);
  crtc(0x0b, 0x0f);
  EXPECT_TRUE(vga.snapshot().cursor.visible);
}

TEST_F(VgaTextTest, cursor_off_the_screen_is_not_visible) {
  crtc(0x0e, 0x07);
  crtc(0x0f, 0xd0);  // 2000, the first cell after the last row
  EXPECT_FALSE(vga.snapshot().cursor.visible);
}

TEST_F(VgaTextTest, start_address_scrolls) {
  put(80, "second line");
  crtc(0x0d, 80);
  EXPECT_EQ(render_text(vga.snapshot()), "second line\n");
}

TEST_F(VgaTextTest, cursor_moves_with_the_start_address) {
  crtc(0x0d, 80);
  crtc(0x0f, 83);
  const VgaCursor cursor = vga.snapshot().cursor;
  EXPECT_EQ(cursor.row, 0u);
  EXPECT_EQ(cursor.column, 3u);
}

TEST_F(VgaTextTest, the_page_wraps_after_32_kib) {
  put(0x3fff, 'x');
  put(0, 'y');
  crtc(0x0c, 0xff);  // bits beyond the page do not count
  crtc(0x0d, 0xff);
  const VgaSnapshot screen = vga.snapshot();
  EXPECT_EQ(screen.cell(0, 0).character, 'x');
  EXPECT_EQ(screen.cell(1, 0).character, 'y');
}

TEST_F(VgaTextTest, offset_register_sets_the_pitch) {
  put(100, 'n');
  crtc(0x13, 50);
  EXPECT_EQ(vga.snapshot().cell(0, 1).character, 'n');
}

TEST_F(VgaTextTest, protected_timing_registers_keep_their_values) {
  crtc(0x01, 0x27);
  EXPECT_EQ(vga.snapshot().columns, 80u);
  crtc(0x07, 0x00);
  EXPECT_EQ(vga.state().crtc[7], 0x0f) << "line compare bit 8 is not protected";
  crtc(0x11, 0x0e);
  crtc(0x01, 0x27);
  EXPECT_EQ(vga.snapshot().columns, 40u);
}

TEST_F(VgaTextTest, eight_line_font_makes_fifty_rows) {
  crtc(0x09, 0x47);
  const VgaSnapshot screen = vga.snapshot();
  EXPECT_EQ(screen.rows, 50u);
  EXPECT_EQ(screen.char_height, 8u);
  EXPECT_EQ(screen.cells.size(), 80u * 50u);
}

TEST_F(VgaTextTest, absurd_sizes_are_clamped) {
  crtc(0x11, 0x00);
  for (unsigned i = 0; i < 25; ++i) crtc(i, 0xff);
  VgaSnapshot screen = vga.snapshot();
  EXPECT_LE(screen.columns, VgaSnapshot::kMaxColumns);
  EXPECT_LE(screen.rows, VgaSnapshot::kMaxRows);
  EXPECT_EQ(screen.cells.size(), screen.columns * screen.rows);
  crtc(0x11, 0x00);
  for (unsigned i = 0; i < 25; ++i) crtc(i, 0x00);
  screen = vga.snapshot();
  EXPECT_EQ(screen.columns, 1u);
  EXPECT_EQ(screen.rows, 1u);
  crtc(0x12, 0xff);  // 256 rows of one line
  EXPECT_EQ(vga.snapshot().rows, VgaSnapshot::kMaxRows);
}

TEST_F(VgaTextTest, flip_flop_is_reset_by_input_status_1) {
  outb(0x3c0, 0x10);
  inb(0x3da);
  outb(0x3c0, 0x30);  // an index again
  EXPECT_EQ(inb(0x3c0), 0x30);
  outb(0x3c0, 0x04);
  EXPECT_EQ(inb(0x3c1), 0x04);
  EXPECT_FALSE(vga.snapshot().blink);
}

TEST_F(VgaTextTest, turning_blinking_off_gives_bright_backgrounds) {
  attribute(0x10, 0x04);
  EXPECT_FALSE(vga.snapshot().blink);
  attribute(0x10, 0x08);
  EXPECT_TRUE(vga.snapshot().blink);
  EXPECT_FALSE(vga.snapshot().line_graphics);
}

TEST_F(VgaTextTest, palette_goes_through_attribute_and_dac_registers) {
  attribute(0x01, 0x04);  // blue becomes red
  EXPECT_EQ(vga.snapshot().palette[1], (VgaColor{0xaa, 0x00, 0x00}));
  outb(0x3c8, 0x04);
  outb(0x3c9, 0x3f);
  outb(0x3c9, 0x20);
  outb(0x3c9, 0x00);
  EXPECT_EQ(vga.snapshot().palette[1], (VgaColor{0xff, 0x82, 0x00}));
  outb(0x3c6, 0x00);  // the mask leaves colour 0
  EXPECT_EQ(vga.snapshot().palette[1], (VgaColor{0x00, 0x00, 0x00}));
}

TEST_F(VgaTextTest, color_select_chooses_among_dac_pages) {
  outb(0x3c8, 0xd7);  // page 13, colour 7
  outb(0x3c9, 1);
  outb(0x3c9, 2);
  outb(0x3c9, 3);
  attribute(0x10, 0x8c);
  attribute(0x14, 0x0d);
  EXPECT_EQ(vga.snapshot().palette[7], (VgaColor{4, 8, 12}));
}

TEST_F(VgaTextTest, dac_indexes_increment_after_three_components) {
  outb(0x3c8, 0xff);
  for (unsigned i = 1; i <= 6; ++i) outb(0x3c9, i);  // 255, then wraps to 0
  EXPECT_EQ(inb(0x3c7), 0x00);
  outb(0x3c7, 0xff);
  EXPECT_EQ(inb(0x3c7), 0x03);
  for (unsigned i = 1; i <= 6; ++i) EXPECT_EQ(inb(0x3c9), i);
  EXPECT_EQ(inb(0x3c8), 0x01);
}

TEST_F(VgaTextTest, dac_components_have_six_bits) {
  outb(0x3c8, 0);
  outb(0x3c9, 0xff);
  outb(0x3c7, 0);
  EXPECT_EQ(inb(0x3c9), 0x3f);
}

TEST_F(VgaTextTest, retrace_bits_toggle_so_that_waits_end) {
  const unsigned first = inb(0x3da) & 0x09;
  const unsigned second = inb(0x3da) & 0x09;
  EXPECT_EQ(first ^ second, 0x09u);
  EXPECT_EQ(inb(0x3da) & 0x09, static_cast<int>(first));
}

TEST_F(VgaTextTest, misc_output_moves_the_crtc) {
  EXPECT_EQ(inb(0x3cc), 0x67);
  EXPECT_TRUE(answers(0x3d4));
  EXPECT_FALSE(answers(0x3b4));
  outb(0x3c2, 0x66);
  EXPECT_FALSE(answers(0x3d4));
  EXPECT_FALSE(answers(0x3da));
  EXPECT_TRUE(answers(0x3ba));
  outb(0x3b4, 0x0f);
  outb(0x3b5, 0x09);
  outb(0x3c2, 0x67);
  EXPECT_EQ(inb(0x3d5), 0x09);
}

TEST_F(VgaTextTest, memory_map_select_chooses_the_monochrome_page) {
  memory[0x10000] = 'm';
  outb(0x3ce, 6);
  outb(0x3cf, 0x0a);
  EXPECT_EQ(vga.snapshot().cell(0, 0).character, 'm');
}

TEST_F(VgaTextTest, registers_keep_the_bits_that_exist) {
  outb(0x3c4, 1);
  outb(0x3c5, 0xff);
  EXPECT_EQ(inb(0x3c5), 0x3d);
  EXPECT_FALSE(vga.snapshot().display_enabled) << "screen off";
  EXPECT_EQ(vga.snapshot().char_width, 8u);
  outb(0x3ce, 8);
  outb(0x3cf, 0xa5);
  EXPECT_EQ(inb(0x3cf), 0xa5);
}

TEST_F(VgaTextTest, registers_that_do_not_exist_read_zero) {
  outb(0x3c4, 0xff);
  outb(0x3c5, 0x55);
  EXPECT_EQ(inb(0x3c5), 0);
  crtc(0xff, 0x55);
  EXPECT_EQ(inb(0x3d5), 0);
  outb(0x3ce, 0xff);
  outb(0x3cf, 0x55);
  EXPECT_EQ(inb(0x3cf), 0);
  EXPECT_EQ(vga.state().crtc, VgaText::State{}.crtc);
}

TEST_F(VgaTextTest, graphics_mode_is_told) {
  attribute(0x10, 0x41);
  EXPECT_FALSE(vga.snapshot().text_mode);
}

TEST_F(VgaTextTest, clearing_pas_switches_the_picture_off) {
  inb(0x3da);
  outb(0x3c0, 0x00);
  EXPECT_FALSE(vga.snapshot().display_enabled);
  inb(0x3da);
  outb(0x3c0, 0x20);
  EXPECT_TRUE(vga.snapshot().display_enabled);
}

TEST_F(VgaTextTest, window_writes_give_the_picture_of_plain_memory) {
  VgaWindow window("vga-window", vga);
  const std::uint8_t cells[8] = {'H', 0x07, 'e', 0x17, 'y', 0x27, '!', 0x37};
  EXPECT_EQ(window.write(0x18000, cells), Access::Ok);
  EXPECT_EQ(render_text(vga.snapshot()), "Hey!\n");
  std::uint8_t back[8] = {};
  EXPECT_EQ(window.read(0x18000, back), Access::Ok);
  EXPECT_TRUE(std::equal(back, back + 8, cells));
  EXPECT_EQ(memory[0x18002], 'e');
}

TEST_F(VgaTextTest, window_ends_at_c0000h) {
  VgaWindow window("vga-window", vga);
  std::uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(window.write(0x1fff8, data), Access::Ok);
  EXPECT_EQ(window.write(0x1fff9, data), Access::NoRegister);
  EXPECT_EQ(window.read(0x20000, data), Access::NoRegister);
  EXPECT_EQ(window.read(~std::uint64_t{0}, data), Access::NoRegister);
  EXPECT_EQ(data[0], 1);
}

TEST_F(VgaTextTest, reset_keeps_the_memory) {
  put(0, "kept");
  crtc(0x0d, 1);
  vga.reset();
  EXPECT_EQ(render_text(vga.snapshot()), "kept\n");
}

}  // namespace
}  // namespace vmm
