// The kernel inside a bzImage, and what its boot protocol needs of the header in front of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "loader/image.h"
#include "vmm/base/result.h"

namespace vmm {

struct Vmlinux {
  // The setup header, from offset 1f1h of the bzImage to its end, to be copied to the same offset
  // of boot_params (Documentation/x86/boot.rst, "64-bit Boot Protocol").
  std::vector<std::uint8_t> setup_header;
  LoadedImage elf;  // vmlinux: its segments and its entry are physical
};

// Unpacks the payload (boot protocol 208h and later) on the host, which does it a hundred times
// faster than the emulated processor would: gzip, xz, zstd or lz4. Errors of kind Usage say what is
// wrong with the image, or which compression it has that is not known here.
Result<Vmlinux> extract_vmlinux(std::span<const std::uint8_t> bzimage);

}  // namespace vmm
