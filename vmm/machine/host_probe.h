// The host's grant from a /dev/kvm that is already open.
#pragma once

#include "vmm/kvm/kvm.h"
#include "vmm/machine/host.h"

namespace vmm {

Result<HostGrant> read_host_grant(const Kvm& kvm);

}  // namespace vmm
