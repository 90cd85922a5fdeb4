// Turns the machine off: SLP_EN with type 0 at the ACPI PM1a control port.
#include "guest-tests/guests/guest.h"

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("poweroff: 2000h to port 604h\n");
  guest::out16(0x604, 0x2000);
  return 1;
}
