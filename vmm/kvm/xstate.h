// The host's leave for state that is too big to give to every process (Linux 5.17: KVM gives AMX to
// guests of processes that asked for it).
#pragma once

#include "vmm/base/result.h"

namespace vmm {

// The component of XTILEDATA, AMX's tiles, in XCR0.
inline constexpr unsigned kXtileData = 18;

// ARCH_REQ_XCOMP_GUEST_PERM for a component, before the first vCPU of the process: KVM_SET_CPUID2
// says EPERM to a CPUID with it otherwise. A Host error that says why not.
Result<void> permit_guest_xstate(unsigned component);

// The same as an errno of the kernel's, in words.
Error guest_xstate_refused(unsigned component, int errno_value);

}  // namespace vmm
