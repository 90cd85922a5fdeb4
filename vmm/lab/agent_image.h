// The agent's executable, as it is carried in this program.
#pragma once

#include <cstdint>
#include <span>

namespace vmm {

// A static ELF executable: /init of a lab's initramfs (vmm/lab/agent).
std::span<const std::uint8_t> lab_agent();

}  // namespace vmm
