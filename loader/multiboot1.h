// Multiboot 1 (Multiboot Specification 0.6.96): the header in the image, the information structure
// for the guest.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loader/boot_info.h"
#include "loader/image.h"
#include "loader/multiboot.h"

namespace vmm {

namespace spec {
constexpr std::uint32_t MULTIBOOT_HEADER_MAGIC = 0x1bad'b002;
constexpr std::uint32_t MULTIBOOT_BOOTLOADER_MAGIC = 0x2bad'b002;  // in EAX at entry
}  // namespace spec

// The header must lie wholly in this many bytes from the start of the file (section 3.1).
constexpr std::size_t kMultiboot1Window = 8192;

struct Multiboot1Search : MultibootSearch {
  std::uint32_t flags = 0;  // of the header
};
Multiboot1Search find_multiboot1(std::span<const std::uint8_t> bytes);

// Reads image.bytes, whose header is at `header`, and sets everything but the path and the
// detection. With flags bit 16 the header's address fields say what to load, else ELF program
// headers do. Image errors name the field and its value.
Result<void> parse_multiboot1(LoadedImage& image, std::size_t header);

// The information structure (section 3.3) with everything it points to, made to stand at `base` (a
// multiple of 8, below 4 GiB). The size does not depend on `base`.
std::vector<std::uint8_t> make_multiboot1_info(const BootFacts& facts, Gpa base);

}  // namespace vmm
