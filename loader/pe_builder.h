// For tests: a UEFI image of one section.
#pragma once

#include "loader/image_builder.h"
#include "loader/pe_image.h"

namespace vmm::testing_images {

struct PeParts {
  std::uint16_t machine = spec::IMAGE_FILE_MACHINE_AMD64;
  std::uint16_t magic = 0x20b;
  std::uint16_t subsystem = spec::IMAGE_SUBSYSTEM_EFI_APPLICATION;
  std::uint32_t entry = 0x1000;
  std::uint32_t image_size = 0x2000;
  std::uint32_t section_offset = 0x200;
  std::uint32_t section_size = 0x40;
};

// "MZ", the headers at 80h, a section table of one entry, its bytes at 200h.
inline ByteVector minimal_efi(const PeParts& parts = {}) {
  constexpr std::size_t kHeader = 0x80;
  constexpr std::size_t kOptional = kHeader + 24;
  constexpr std::uint16_t kOptionalSize = 0xf0;
  constexpr std::size_t kSection = kOptional + kOptionalSize;
  ByteVector bytes(0x240);
  put_text(bytes, 0, "MZ");
  store<std::uint32_t>(bytes, 0x3c, kHeader);
  put_text(bytes, kHeader, "PE");
  store<std::uint16_t>(bytes, kHeader + 4, parts.machine);
  store<std::uint16_t>(bytes, kHeader + 6, 1);
  store<std::uint16_t>(bytes, kHeader + 20, kOptionalSize);
  store<std::uint16_t>(bytes, kOptional, parts.magic);
  store<std::uint32_t>(bytes, kOptional + 16, parts.entry);
  store<std::uint32_t>(bytes, kOptional + 56, parts.image_size);
  store<std::uint32_t>(bytes, kOptional + 60, 0x200);
  store<std::uint16_t>(bytes, kOptional + 68, parts.subsystem);
  put_text(bytes, kSection, ".text");
  store<std::uint32_t>(bytes, kSection + 8, parts.section_size);
  store<std::uint32_t>(bytes, kSection + 12, 0x1000);
  store<std::uint32_t>(bytes, kSection + 16, parts.section_size);
  store<std::uint32_t>(bytes, kSection + 20, parts.section_offset);
  bytes[0x200] = 0xc3;
  return bytes;
}

}  // namespace vmm::testing_images
