// Ends with 7 under a CPU that has both 1 GiB pages and PREFETCHW in its CPUID and more than 39
// physical address bits, else with 0: a guest that only looks, for tests of what makes a
// difference.
#include "guest-tests/guests/guest.h"

uint32_t guest_main(uint32_t, uint32_t) {
  const guest::CpuidRegs extended = guest::cpuid(0x80000001);
  const bool pdpe1gb = (extended.edx >> 26 & 1) != 0;
  const bool prefetchw = (extended.ecx >> 8 & 1) != 0;
  const bool wide = (guest::cpuid(0x80000008).eax & 0xff) > 39;
  return pdpe1gb && prefetchw && wide ? 7 : 0;
}
