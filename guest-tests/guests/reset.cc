// Pulses the reset line of the i8042.
#include "guest-tests/guests/guest.h"

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("reset: command feh to port 64h\n");
  guest::out8(0x64, 0xfe);
  return 1;
}
