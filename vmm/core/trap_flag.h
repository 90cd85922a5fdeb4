// What a step of ours leaves behind in the guest. KVM steps by RFLAGS.TF and hides it in the
// registers that it shows, but what stores RFLAGS on the way stores TF as well: an exception's
// frame (SDM vol. 3A 6.14.2), PUSHF, SYSCALL in R11. Whoever loads that again when nobody steps any
// more gets a #DB of nobody's.
#pragma once

#include "vmm/core/debug_target.h"
#include "vmm/core/page_walk.h"

namespace vmm {

// Most steps have not: no memory has to be read, and no more than these registers.
bool may_have_stored_trap_flag(const kvm_regs& before, const kvm_regs& after);

// Takes it out of what the step of `vcpu` from `before` to `after` stored, as far as that is
// certain: a frame has to tell all of `before`.
Result<void> remove_stored_trap_flag(DebugTarget& target, unsigned vcpu, const CpuState& before,
                                     const CpuState& after, const PagingFeatures& features);

}  // namespace vmm
