// PE/COFF images for UEFI: what the headers say about who starts them. The firmware loads them;
// here they are only recognised. Source: Microsoft PE format, UEFI specification 2.10 section 2.1.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "loader/image.h"

namespace vmm {

namespace spec {
constexpr std::uint16_t IMAGE_FILE_MACHINE_I386 = 0x014c;
constexpr std::uint16_t IMAGE_FILE_MACHINE_AMD64 = 0x8664;
constexpr std::uint16_t IMAGE_SUBSYSTEM_EFI_APPLICATION = 10;
constexpr std::uint16_t IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER = 11;
constexpr std::uint16_t IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER = 12;
}  // namespace spec

// The fields of the headers, all of which lie inside of the file. Any value may be in them.
struct PeHeaders {
  std::uint16_t machine = 0;
  std::uint16_t sections = 0;
  std::uint16_t subsystem = 0;
  bool plus = false;  // PE32+: 64-bit
  std::uint32_t entry = 0;
  std::uint64_t image_base = 0;
  std::uint32_t image_size = 0;    // SizeOfImage: what it takes in memory
  std::uint32_t headers_size = 0;  // SizeOfHeaders
  std::size_t section_table = 0;   // its offset in the file
};

// Nothing when there is no "MZ", no "PE\0\0" where 3Ch points to, or the optional header is cut
// off.
std::optional<PeHeaders> find_pe_headers(std::span<const std::uint8_t> bytes);

// A UEFI application or driver, for whatever machine. A bzImage with an EFI stub is one too.
bool is_efi(const PeHeaders& headers);

std::string machine_text(std::uint16_t machine);      // "x86-64", "ARM64", "machine 1c2h"
std::string subsystem_text(std::uint16_t subsystem);  // "UEFI application", "subsystem 3"

// Checks that x86-64 firmware can load image.bytes, and sets its protocol and entry; it has no
// segments, for the firmware chooses the place. Image errors: another machine, no UEFI image, an
// entry or a section outside.
Result<void> parse_efi(LoadedImage& image);

}  // namespace vmm
