// Multiboot 2 (Multiboot2 Specification 2.0): the header in the image, the information for the
// guest.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "loader/boot_info.h"
#include "loader/image.h"
#include "loader/multiboot.h"

namespace vmm {

namespace spec {
constexpr std::uint32_t MULTIBOOT2_HEADER_MAGIC = 0xe852'50d6;
constexpr std::uint32_t MULTIBOOT2_BOOTLOADER_MAGIC = 0x36d7'6289;  // in EAX at entry
}  // namespace spec

// The header must lie wholly in this many bytes from the start of the file (section 3.1).
constexpr std::size_t kMultiboot2Window = 32768;

MultibootSearch find_multiboot2(std::span<const std::uint8_t> bytes);

// Reads image.bytes, whose header is at `header`, and sets everything but the path and the
// detection. Image errors name the tag and its value: damaged tags, another architecture, a
// required tag that nothing here understands or that only EFI can satisfy.
Result<void> parse_multiboot2(LoadedImage& image, std::size_t header);

// The information (section 3.6), made to stand at `base` (a multiple of 8, below 4 GiB).
std::vector<std::uint8_t> make_multiboot2_info(const BootFacts& facts, Gpa base);

}  // namespace vmm
