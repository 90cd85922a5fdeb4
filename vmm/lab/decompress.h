// xz and zstd, for the kernel modules that distributions compress.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// The content of an .xz file or a .zst file (one or more streams or frames). Errors of kind Usage:
// damaged or cut off data, or more than `max_size` bytes of content.
Result<std::vector<std::uint8_t>> decompress_xz(std::span<const std::uint8_t> bytes,
                                                std::size_t max_size);
Result<std::vector<std::uint8_t>> decompress_zstd(std::span<const std::uint8_t> bytes,
                                                  std::size_t max_size);

}  // namespace vmm
