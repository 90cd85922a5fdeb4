// What this host's KVM offers, asked once and turned into values.
#pragma once

#include "vmm/base/result.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

// Opens /dev/kvm and asks. A Host error (exit 77) with a hint when there is no /dev/kvm or no
// permission.
Result<HostGrant> read_host_grant();

}  // namespace vmm
