// Flat binaries: the file as it is, at an address below 1 MiB, entered in real mode.
#pragma once

#include "loader/boot.h"

namespace vmm {

// Where a PC's firmware puts a boot sector.
constexpr Gpa kBootSector = 0x7c00;

// Sets protocol, segments and entry for image.bytes loaded at `address`. A Usage error when real
// mode does not reach that (1 MiB and above).
Result<void> parse_flat(LoadedImage& image, Gpa address);

}  // namespace vmm
