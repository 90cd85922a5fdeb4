// A hypervisor that slips under the system that runs: what both vendors' halves share.
#pragma once

#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/registers.h"

namespace blue_pill {

constexpr uint32_t kMaxProcessors = 8;
constexpr uint32_t kLeaf = 0x40000000, kSignature = 0x65756c42;  // "Blue" in EBX

// Each vendor's own. From its return on this processor runs as L2 of the hypervisor; false, with a
// line on the console, where it does not.
bool swallow(uint32_t index);
// Back to running on its own, with a call to the hypervisor.
void spit_out();
const char* vendor();

// CPUID of L2: the processor's own, but for the hypervisor's leaf.
inline void answer_cpuid(guest::Registers& l2) {
  const auto leaf = static_cast<uint32_t>(l2.rax);
  guest::CpuidRegs answer = guest::cpuid(leaf, static_cast<uint32_t>(l2.rcx));
  if (leaf == kLeaf) answer = {leaf, kSignature, 0, 0};
  l2.rax = answer.eax;
  l2.rbx = answer.ebx;
  l2.rcx = answer.ecx;
  l2.rdx = answer.edx;
}

inline bool is_under() {
  // Without a hypervisor the leaf may hold anything, but hardly this.
  return guest::cpuid(kLeaf).ebx == kSignature;
}

}  // namespace blue_pill
