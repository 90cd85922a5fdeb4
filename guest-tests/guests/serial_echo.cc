// Polls the serial port and sends back what comes, until the end of a line; then ends with 0.
#include "guest-tests/guests/guest.h"

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("type a line: ");
  while (true) {
    char c = guest::get();
    if (c == '\r') c = '\n';  // what a terminal sends for Enter
    guest::put(c);
    if (c == '\n') return 0;
  }
}
