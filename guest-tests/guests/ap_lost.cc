// Sends the other processors to a page of zeros: they run into nothing, over the end of the segment
// and through the interrupt vectors to whatever lies at 0, and no one notices. The first processor
// halts for ever.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/lapic.h"

extern "C" [[gnu::noinline]] void wait_for_the_lost_processor() { guest::stop(); }

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("ap-lost: SIPI to 70000h, where only zeros are\n");
  guest::start_other_processors(0x70000);
  wait_for_the_lost_processor();
  return 1;
}
