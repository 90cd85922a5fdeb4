// A parsed image: pure data, no guest memory touched yet.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loader/firmware_image.h"
#include "vmm/base/result.h"
#include "vmm/base/units.h"
#include "vmm/core/symbols.h"

namespace vmm {

// How the guest is entered; loader/README.md has the register state of each.
enum class BootProtocol {
  Elf64,       // long mode, low memory identity-mapped
  Elf32,       // 32-bit protected mode, paging off
  Multiboot1,  // 32-bit protected mode, EAX and EBX as the specification says
  Multiboot2,  // the same, with other numbers
  Pvh,         // 32-bit protected mode, hvm_start_info in EBX
  Linux64,     // long mode, boot_params in RSI
  Linux32,     // 32-bit protected mode, boot_params in ESI
  Flat,        // 16-bit real mode at the load address
  Efi,         // not entered: firmware loads the image, place_image() refuses it
  Firmware,    // real mode at the reset vector; the image is ROM below 4 GiB
};

std::string_view protocol_name(BootProtocol protocol);  // "elf64", "multiboot1", ...

// Bytes to put at `gpa`; `file_size` of them from the file, zeroes up to `memory_size`.
struct Segment {
  Gpa gpa = 0;
  std::uint64_t file_offset = 0;
  std::uint64_t file_size = 0;
  std::uint64_t memory_size = 0;  // at least 1, at least file_size; gpa + memory_size does not wrap
  Gva vaddr = 0;                  // where the kernel was linked
  unsigned number = 0;            // of the ELF program header, from 0; errors name it
  bool executable = true;         // as far as the format says

  Gpa end() const { return gpa + memory_size; }
};

// Where a kernel that can be moved wants to stand.
struct Relocation {
  enum class Preference { None, Low, High };
  Gpa min = 0;  // of its first byte
  Gpa max = 0;  // of its last byte
  std::uint64_t alignment = 1;
  Preference preference = Preference::None;
};

struct LoadedImage {
  BootProtocol protocol = BootProtocol::Elf64;
  std::string path;                 // for errors and the report
  std::vector<std::uint8_t> bytes;  // the whole file
  std::vector<Segment> segments;    // sorted by gpa, not overlapping; none for Efi
  // Where the guest starts: RIP or EIP (physical, paging is identity or off); for flat images the
  // linear address of CS:IP, for UEFI images an offset in the loaded image.
  std::uint64_t entry = 0;
  SymbolTable symbols;
  // How much memory from lowest() on the kernel uses before it looks at any memory map, where its
  // format says so (init_size of Linux). Nothing else is put there; it need not be zero.
  std::uint64_t room = 0;
  std::uint32_t multiboot_flags = 0;      // Multiboot 1 only
  std::optional<Relocation> relocation;   // Multiboot 2 only
  std::optional<FirmwareImage> firmware;  // Firmware only: what parse_firmware() found
  // Linux only: the setup header of the bzImage, from 1f1h on, which boot_params has at the same
  // offset.
  std::vector<std::uint8_t> setup_header;
  // The checks of detection in their order, "multiboot1: no header in the first 8192 bytes", for
  // --dry-run and for refusals.
  std::vector<std::string> detection;

  Gpa lowest() const;         // of all segments; 0 without any
  bool loads(Gpa gpa) const;  // some segment covers it
  Gpa highest() const;        // end of the last byte of all segments; 0 without any
};

// "100000h-1fffffh", the bounds included; "at 100000h, empty" for size 0.
std::string range_text(std::uint64_t base, std::uint64_t size);

}  // namespace vmm
