// gzip, xz, zstd and lz4: kernels, their payloads and modules come compressed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

enum class Compression {
  Gzip,  // RFC 1952, one or more members
  Xz,    // .xz, one or more streams
  Zstd,  // RFC 8878, one or more frames
  Lz4,   // the "legacy" frame that lz4 -l writes, which the kernel's build uses
};

// "gzip", "xz", "zstd" or "lz4".
std::string_view compression_name(Compression compression);

// By the magic number; nothing for a file that is none of them.
std::optional<Compression> compression_of(std::span<const std::uint8_t> bytes);

// The content. Image errors: damaged or cut off data, or more than `max_size` bytes of content. No
// more than that is ever allocated, whatever the file promises. `expected` bytes are what it
// promises, 0 where it does not.
Result<std::vector<std::uint8_t>> decompress(Compression compression,
                                             std::span<const std::uint8_t> bytes,
                                             std::size_t max_size, std::size_t expected = 0);

// The first `most` bytes, or fewer, of what was packed as plain LZMA (the format of lzma-utils,
// which UEFI uses); as far as it goes before damage or an end.
std::vector<std::uint8_t> unpack_lzma_start(std::span<const std::uint8_t> bytes, std::size_t most);

// The content that a file of `size` bytes may have at most: far more than any kernel or initramfs
// has, far less than a bomb.
std::size_t most_content(std::size_t size);

}  // namespace vmm
