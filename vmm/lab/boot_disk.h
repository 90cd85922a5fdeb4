// The disk that the vmx lab boots from: a boot sector of our own that reads the kernel to where it
// runs and enters it in long mode, so that neither a boot loader's files nor the emulated unpacking
// of the kernel are needed. The mailbox lies on the same disk.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "loader/image.h"
#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

// The sector itself (boot_sector.S): 512 bytes.
std::span<const std::uint8_t> boot_sector();

// Where things lie in the lab's memory. Kernels are linked for 16 MiB and up.
namespace boot_disk {
constexpr std::uint64_t kParameters = 0x10'0000;   // boot_params, command line, page tables
constexpr std::uint64_t kInitramfs = 0x1000'0000;  // 256 MiB
}  // namespace boot_disk

// A disk image in anonymous memory (memfd). Errors of kind Usage: a kernel that does not fit below
// the initramfs, a command line of more than 2047 bytes, an initramfs that `memory` (bytes) cannot
// hold.
Result<Fd> make_boot_disk(const LoadedImage& kernel, std::span<const std::uint8_t> initramfs,
                          std::string_view command_line, std::uint64_t memory);

}  // namespace vmm
