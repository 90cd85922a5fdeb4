// Fills the text screen with a known picture, moves the cursor and reads both back. The picture is
// the same whether the screen memory is RAM or every access exits. Ends with 0, or the number of
// the claim that does not hold.
#include "guest-tests/guests/guest.h"

namespace {

constexpr uintptr_t kScreen = 0xb8000;
constexpr unsigned kColumns = 80, kRows = 25;

void put_cell(unsigned row, unsigned column, char c, uint8_t attribute) {
  guest::mmio_write<uint16_t>(kScreen + (row * kColumns + column) * 2,
                              static_cast<uint16_t>(attribute << 8 | static_cast<uint8_t>(c)));
}

void put_text(unsigned row, unsigned column, const char* text, uint8_t attribute) {
  while (*text != '\0') put_cell(row, column++, *text++, attribute);
}

void write_crtc(uint8_t index, uint8_t value) {
  guest::out8(0x3d4, index);
  guest::out8(0x3d5, value);
}

uint8_t read_crtc(uint8_t index) {
  guest::out8(0x3d4, index);
  return guest::in8(0x3d5);
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  for (unsigned row = 0; row < kRows; ++row)
    for (unsigned column = 0; column < kColumns; ++column) put_cell(row, column, ' ', 0x1f);
  put_text(0, 0, "top left", 0x1f);
  put_text(0, kColumns - 9, "top right", 0x1f);
  put_text(kRows - 1, 0, "bottom left", 0x1f);
  put_text(kRows - 1, kColumns - 12, "bottom right", 0x1f);
  put_text(4, 10, "16 foreground colours:", 0x0f);
  for (unsigned colour = 0; colour < 16; ++colour)
    put_text(5, 10 + colour * 3, "\xdb\xdb\xdb", static_cast<uint8_t>(colour));
  put_text(7, 10, "8 background colours:", 0x0f);
  for (unsigned colour = 0; colour < 8; ++colour)
    put_text(8, 10 + colour * 3, " x ", static_cast<uint8_t>(colour << 4 | 0x0f));
  put_text(10, 10, "code page 437: \xc9\xcd\xbb \xb0\xb1\xb2 \x01\x02 \xe1 \xf6", 0x1e);
  put_text(12, 10, "the cursor is here:", 0x1f);
  constexpr uint16_t kCursor = 12 * kColumns + 30;
  write_crtc(0x0e, kCursor >> 8);
  write_crtc(0x0f, kCursor & 0xff);
  guest::require(guest::mmio_read<uint16_t>(kScreen) == 0x1f74, "the first cell reads back", 1);
  guest::require(guest::mmio_read<uint8_t>(kScreen + 1) == 0x1f, "its attribute alone", 2);
  guest::require(guest::mmio_read<uint32_t>(kScreen) == 0x1f6f1f74, "two cells at once", 3);
  guest::require(read_crtc(0x0e) << 8 == (kCursor & 0xff00), "cursor location high", 4);
  guest::require(read_crtc(0x0f) == (kCursor & 0xff), "cursor location low", 5);
  return 0;
}
