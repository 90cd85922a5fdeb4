// For tests of --kvm-trace.
#pragma once

namespace vmm {

// Whether commands that this process starts on this machine find tracefs; where it is not mounted
// and that is allowed, it is mounted for them alone, in a mount namespace of their own.
bool see_tracefs();

}  // namespace vmm
