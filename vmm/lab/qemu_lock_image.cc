#include "vmm/lab/qemu_lock_image.h"

// qemu_lock_image.S
extern "C" const std::uint8_t vmm_qemu_lock_begin[];
extern "C" const std::uint8_t vmm_qemu_lock_end[];

namespace vmm {

std::span<const std::uint8_t> qemu_lock_library() {
  return {vmm_qemu_lock_begin, vmm_qemu_lock_end};
}

}  // namespace vmm
