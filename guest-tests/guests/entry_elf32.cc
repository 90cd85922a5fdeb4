// Checks what the loader promises an ELF32 kernel; ends with 0, or the number of the claim that
// does not hold.
#include "guest-tests/guests/guest.h"

using guest::require;

extern "C" {
extern const uint32_t entry_esp, entry_eflags;
extern const uint16_t entry_idt;  // its limit
}

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("CR0 ", guest::hex(guest::read_cr0()), ", ESP ", guest::hex(entry_esp), "\n");
  require((guest::read_cr0() & 0x80000001) == 1, "CR0.PE set, CR0.PG clear", 1);
  require((entry_eflags & 0x200) == 0, "interrupts off", 2);
  require((entry_eflags & 0x400) == 0, "direction flag clear", 3);
  require(entry_idt == 0, "IDT limit 0: the first fault is a triple fault", 4);
  // With a smaller limit this would be #GP, and without an IDT a triple fault.
  guest::mmio_read<uint32_t>(0xfffffffc);
  require(true, "DS covers 4 GiB", 5);
  return 0;
}
