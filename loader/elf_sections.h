// The section headers of an ELF kernel, for protocols that hand them to the kernel.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "loader/boot_info.h"

namespace vmm {

struct ElfSections {
  GuestSections guest;
  bool is64 = false;
  // Tables of symbols and strings, which no segment loads: where they are in the file.
  struct Table {
    unsigned index = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  std::vector<Table> tables;

  // The table has been put at `gpa`.
  void set_address(const Table& table, Gpa gpa);
};

// Empty for a file without section headers, with damaged ones or with more than a kernel's loader
// block holds (16 KiB). Debugging information and other sections that are not loaded stay outside:
// their address is 0.
ElfSections read_elf_sections(std::span<const std::uint8_t> bytes);

}  // namespace vmm
