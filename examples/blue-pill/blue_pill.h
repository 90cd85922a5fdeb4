// A hypervisor that slips under the system that runs: what both vendors' halves share.
#pragma once

#include "guest-tests/guests/guest.h"

namespace blue_pill {

constexpr uint32_t kMaxProcessors = 8;
constexpr uint32_t kLeaf = 0x40000000, kSignature = 0x65756c42;  // "Blue" in EBX

// Each vendor's own. From its return on this processor runs as L2 of the hypervisor; false, with a
// line on the console, where it does not.
bool swallow(uint32_t index);
// Back to running on its own, with a call to the hypervisor.
void spit_out();
const char* vendor();

inline bool is_under() {
  // Without a hypervisor the leaf may hold anything, but hardly this.
  return guest::cpuid(kLeaf).ebx == kSignature;
}

}  // namespace blue_pill
