// The 8x16 font of code page 437 that the screenshots are drawn with.
//
// The glyphs are those of the bold 16-pixel size of Terminus Font 4.48 (Debian's xfonts-terminus),
// chosen by Unicode value and converted to a table: a Modified Version in the terms of the SIL Open
// Font License 1.1, whose text and copyright notice are in devices/vga_font.LICENSE. The table is
// under that licence and bears no name of its own.
#pragma once

#include <array>
#include <cstdint>

namespace vmm {

// 16 bytes a character, the top line first, bit 7 the leftmost dot.
extern const std::array<std::uint8_t, 4096> kVgaFont;

}  // namespace vmm
