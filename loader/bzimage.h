// Linux's bzImage (Documentation/x86/boot.rst): its real-mode header, the ways into it, the kernel
// inside.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "loader/image.h"

namespace vmm {

// The boot sector's mark at 1FEh and "HdrS" at 202h.
bool is_bzimage(std::span<const std::uint8_t> bytes);

// Each reads image.bytes, sets segments, entry, setup_header, room and protocol. Image errors name
// the header's field and its value.

// The 64-bit entry (200h bytes into the code, needs XLF_KERNEL_64) and the 32-bit one: the kernel
// unpacks itself.
Result<void> parse_bzimage64(LoadedImage& image);
Result<void> parse_bzimage32(LoadedImage& image);
// vmlinux, unpacked here, which even a native processor would not do faster, and entered as after
// its own unpacking (startup_64, boot_params in RSI). image.bytes becomes the unpacked file. The
// kernel does not move itself then (KASLR): its addresses are the linked ones.
Result<void> parse_unpacked_bzimage(LoadedImage& image);

// Whether there is a kernel inside, as far as its first bytes tell. memtest86+, a bzImage too,
// holds none. Image errors for a header that is damaged.
Result<bool> has_known_payload(std::span<const std::uint8_t> bzimage);
// The bytes of the kernel inside (boot protocol 208h and later): gzip, xz, zstd or lz4. Image
// errors say what is wrong with the image, or which compression it has that is not known here.
Result<std::vector<std::uint8_t>> unpack_payload(std::span<const std::uint8_t> bzimage);

}  // namespace vmm
