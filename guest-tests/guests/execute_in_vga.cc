// Puts a few instructions at B0000h and jumps there. Where the VGA window is plain memory they run
// and end the guest with 0; where each access exits (--vga ...,trap) there is nothing to fetch.
#include "guest-tests/guests/guest.h"

extern "C" [[gnu::noinline]] void jump_into_the_vga_window() {
  reinterpret_cast<void (*)()>(0xb0000)();
}

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("execute-in-vga: jumping to b0000h\n");
  guest::mmio_write<uint32_t>(0xb0000, 0xf4e7c031);  // xor %eax, %eax; out %eax, $0xf4
  guest::mmio_write<uint16_t>(0xb0004, 0xfeeb);      // jmp to itself
  jump_into_the_vga_window();
  return 1;
}
