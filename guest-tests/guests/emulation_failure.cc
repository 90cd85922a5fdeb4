// Jumps into the hole below 4 GiB, where there is no memory to fetch from.
#include "guest-tests/guests/guest.h"

extern "C" [[gnu::noinline]] void jump_into_the_hole() {
  reinterpret_cast<void (*)()>(0xd0000000)();
}

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("emulation-failure: jumping to d0000000h\n");
  jump_into_the_hole();
  return 1;
}
