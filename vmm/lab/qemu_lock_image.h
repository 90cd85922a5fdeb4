// The library that is preloaded into QEMU (vmm/lab/qemu_lock), as it is carried in this program.
#pragma once

#include <cstdint>
#include <span>

namespace vmm {

// A shared ELF library.
std::span<const std::uint8_t> qemu_lock_library();

}  // namespace vmm
