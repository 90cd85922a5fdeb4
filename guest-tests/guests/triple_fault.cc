// An undefined instruction without an IDT: #UD, then #DF, then shutdown.
#include "guest-tests/guests/guest.h"

extern "C" [[gnu::noinline]] void execute_undefined_instruction() { asm volatile("ud2"); }

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::print("triple-fault: ud2 without an IDT\n");
  const guest::CpuidRegs first = guest::cpuid(0);  // something for the list of last events
  guest::print("triple-fault: CPUID 0 EAX is ", guest::hex(first.eax), "\n");
  execute_undefined_instruction();
  return 1;
}
