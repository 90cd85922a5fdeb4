// Sends the other processors to where no code is: the build names the page, and what is put there.
// They run into nothing, and no one notices. The first processor halts for ever.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/lapic.h"

#ifndef PAGE
#define PAGE 0x70000  // zeroes, unless FILL says otherwise
#endif

extern "C" [[gnu::noinline]] void wait_for_the_lost_processor() { guest::stop(); }

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
#ifdef FILL
  for (uintptr_t at = 0; at < 0x1000; at += 8) guest::mmio_write<uint64_t>(PAGE + at, FILL);
#endif
  guest::print("ap-lost: SIPI to ", guest::hex(PAGE), ", where no code is\n");
  guest::start_other_processors(PAGE);
  wait_for_the_lost_processor();
  return 1;
}
