// A read of an address that nothing maps, without an IDT: #PF, then #DF, then shutdown. CR2 keeps
// the address.
#include "guest-tests/guests/guest.h"

extern "C" [[gnu::noinline]] uint32_t read_unmapped_address() {
  return guest::mmio_read<uint32_t>(0x123456789000);
}

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("triple-fault-pf: reading 123456789000h\n");
  return read_unmapped_address() + 1;
}
