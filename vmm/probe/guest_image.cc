#include "vmm/probe/guest_image.h"

// guest_image.S
extern "C" const std::uint8_t vmm_probe_guest_begin[];
extern "C" const std::uint8_t vmm_probe_guest_end[];

namespace vmm {

std::span<const std::uint8_t> probe_guest() { return {vmm_probe_guest_begin, vmm_probe_guest_end}; }

}  // namespace vmm
