// From kvm_run to an Exit: the one place that knows the shared page's layout.
#pragma once

#include <span>

#include "vmm/core/exit.h"
#include "vmm/core/uapi.h"

namespace vmm {

// `page` is the whole mapping that `run` begins, for the data of port exits; an offset or length
// outside it (which KVM never gives) becomes UnknownExit.
Exit decode_exit(kvm_run& run, std::span<std::uint8_t> page);

}  // namespace vmm
