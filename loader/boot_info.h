// What a guest is told at its start, whatever form its protocol has for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loader/e820.h"
#include "loader/image.h"

namespace vmm {

struct PlacedModule {
  Gpa start = 0;
  Gpa end = 0;
  std::string text;  // the string that goes with it

  std::uint64_t size() const { return end - start; }
};

// The section headers of an ELF kernel as the guest gets them: sh_addr says where a section is in
// physical memory.
struct GuestSections {
  std::vector<std::uint8_t> headers;
  std::uint32_t count = 0;
  std::uint32_t entry_size = 0;
  std::uint32_t names = 0;  // index of the section with the names
};

struct BootFacts {
  std::string command_line;
  std::vector<PlacedModule> modules;  // with Linux the initrd, if any
  std::vector<E820Entry> map;
  Gpa low_end = 0;                 // the end of RAM below the hole
  std::vector<std::uint8_t> rsdp;  // ACPI's root pointer, empty where there is none
  Gpa rsdp_at = 0;                 // 0 where there is none
  bool screen = false;             // someone looks at the VGA text screen
  GuestSections sections;          // empty where the protocol has no use for them
  std::optional<Gpa> load_base;    // of a kernel that asked to be moved

  // KiB of RAM from 1 MiB to the hole.
  std::uint32_t upper_kib() const {
    return low_end > kExtendedRam ? static_cast<std::uint32_t>((low_end - kExtendedRam) / 1_KiB)
                                  : 0;
  }
};

// The information of image.protocol, made to stand at `base` (a multiple of 16, below 4 GiB), with
// everything it points to. The size does not depend on `base`. Not for flat images.
std::vector<std::uint8_t> make_boot_info(const LoadedImage& image, const BootFacts& facts,
                                         Gpa base);
// Plain ELF images have the command line first and the memory map at this offset.
std::size_t elf_map_offset(const BootFacts& facts);

}  // namespace vmm
