// Writes down what the keyboard sends, polled, until Esc is released; then says what it is and ends
// with 0, or the number of the claim that does not hold.
#include "guest-tests/guests/guest.h"

using guest::hex;
using guest::in8;
using guest::out8;
using guest::print;
using guest::require;

namespace {

uint32_t next() {
  while ((in8(0x64) & 1) == 0) {
  }
  return in8(0x60);
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  out8(0x60, 0xf2);
  require(next() == 0xfa, "the keyboard acknowledges", 1);
  require(next() == 0xab && next() == 0x41, "it is an MF2 keyboard, translated", 2);
  print("type:");
  while (true) {
    const uint32_t code = next();
    print(" ", hex(code));
    if (code == 0x81) break;
  }
  print("\n");
  return 0;
}
