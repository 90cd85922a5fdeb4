// The registers and the block of memory (stack, page tables, descriptors, information) with which
// vCPU 0 starts. loader/README.md lists them register by register.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "loader/image.h"
#include "vmm/core/cpu_state.h"

namespace vmm {

// Segment selectors of the entry states with protection. They follow the null descriptor.
namespace spec {
constexpr std::uint16_t BOOT_CS = 0x08;
constexpr std::uint16_t BOOT_DS = 0x10;
constexpr std::uint16_t BOOT_TR = 0x18;
// Linux's protocols name their selectors (Documentation/x86/boot.rst): __BOOT_CS and __BOOT_DS.
constexpr std::uint16_t LINUX_CS = 0x10;
constexpr std::uint16_t LINUX_DS = 0x18;
constexpr std::uint16_t LINUX_TR = 0x20;
}  // namespace spec

// Where the parts of the boot block stand, bottom up. The stack is the lowest, so that an overflow
// leaves the block instead of running into the page tables.
class BootBlock {
 public:
  static constexpr std::uint64_t kStackSize = 16_KiB;
  static constexpr std::uint64_t kMappedGiB = 4;
  static constexpr std::uint64_t kDescriptorsSize = 256;

  // `base` is a multiple of 4 KiB. Page tables are there for Elf64 and Linux64 only; Flat has no
  // block.
  BootBlock(BootProtocol protocol, Gpa base)
      : long_mode_(protocol == BootProtocol::Elf64 || protocol == BootProtocol::Linux64),
        linux_(protocol == BootProtocol::Linux64 || protocol == BootProtocol::Linux32),
        base_(base) {}

  Gpa base() const { return base_; }
  Gpa stack_top() const { return base_ + kStackSize; }
  Gpa page_tables() const { return stack_top(); }
  Gpa gdt() const { return page_tables() + page_tables_size(); }
  Gpa tss() const { return gdt() + kDescriptorsSize / 2; }
  Gpa info() const { return gdt() + kDescriptorsSize; }
  // Of everything before info().
  std::uint64_t fixed_size() const { return info() - base_; }

  // The block with `info` at its end.
  std::vector<std::uint8_t> bytes(std::span<const std::uint8_t> info) const;

  bool long_mode() const { return long_mode_; }
  std::uint16_t code_selector() const { return linux_ ? spec::LINUX_CS : spec::BOOT_CS; }
  std::uint16_t data_selector() const { return linux_ ? spec::LINUX_DS : spec::BOOT_DS; }
  std::uint16_t tss_selector() const { return linux_ ? spec::LINUX_TR : spec::BOOT_TR; }
  // Ends with the TSS (16 bytes in long mode, which the others leave 0).
  std::uint16_t gdt_limit() const { return static_cast<std::uint16_t>(tss_selector() + 15); }
  static constexpr std::uint32_t kTssLimit = 0x67;

 private:
  // One PML4, one page-directory-pointer table and a page directory for each GiB.
  std::uint64_t page_tables_size() const { return long_mode_ ? (2 + kMappedGiB) * 4_KiB : 0; }

  bool long_mode_;
  bool linux_;
  Gpa base_;
};

// What plain ELF images find in their registers.
struct ElfArguments {
  Gpa command_line = 0;          // RDI: a string that ends with 0
  Gpa e820 = 0;                  // RSI: the memory map, entries of 20 bytes as INT 15h gives them
  std::uint64_t e820_count = 0;  // RDX
};

CpuState elf64_state(const BootBlock& block, std::uint64_t entry, const ElfArguments& arguments);
CpuState elf32_state(const BootBlock& block, std::uint64_t entry, const ElfArguments& arguments);
CpuState multiboot1_state(const BootBlock& block, std::uint64_t entry);
CpuState multiboot2_state(const BootBlock& block, std::uint64_t entry);
CpuState pvh_state(const BootBlock& block, std::uint64_t entry);
CpuState linux64_state(const BootBlock& block, std::uint64_t entry);
CpuState linux32_state(const BootBlock& block, std::uint64_t entry);
// `address` is below 1 MiB.
CpuState flat_state(Gpa address);

}  // namespace vmm
