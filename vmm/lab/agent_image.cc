#include "vmm/lab/agent_image.h"

// agent_image.S
extern "C" const std::uint8_t vmm_lab_agent_begin[];
extern "C" const std::uint8_t vmm_lab_agent_end[];

namespace vmm {

std::span<const std::uint8_t> lab_agent() { return {vmm_lab_agent_begin, vmm_lab_agent_end}; }

}  // namespace vmm
