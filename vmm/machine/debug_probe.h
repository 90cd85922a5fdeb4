// What this host's KVM really delivers to a debugger.
#pragma once

#include "vmm/core/cpuid_table.h"
#include "vmm/core/debug_control.h"
#include "vmm/kvm/kvm.h"

namespace vmm {

// KVM says what it takes (KVM_CAP_SET_GUEST_DEBUG2), and a VM of a few instructions shows what
// comes of it: whether an int3, an instruction in a debug register and a watched write stop. On
// kvm_pvm, whose ring 0 is emulated, only the second does; with kvm_amd inside QEMU 7.2's emulator,
// which forgets the intercept of int3 and a guest's DR7, none.
Result<DebugSupport> probe_debug_support(const Kvm& kvm, const CpuidTable& cpuid);

}  // namespace vmm
