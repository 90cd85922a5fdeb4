// ELF32 and ELF64 images for x86, by their program headers (gABI chapters 4 and 5). Sections matter
// only for symbols.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loader/image.h"

namespace vmm {

// An image with more program headers than this is refused.
constexpr unsigned kMaxProgramHeaders = 256;

// True when the file starts with 7fh 'E' 'L' 'F'.
bool is_elf(std::span<const std::uint8_t> bytes);

// Reads image.bytes and sets protocol (Elf32 or Elf64), segments, entry and symbols. Image errors
// name the offset or the program header, and the value found there.
Result<void> parse_elf(LoadedImage& image);

struct ElfNote {
  std::string name;
  std::uint32_t type = 0;
  std::span<const std::uint8_t> description;  // in the file's bytes
};
// The notes of all PT_NOTE segments, as far as they are whole.
std::vector<ElfNote> read_elf_notes(std::span<const std::uint8_t> bytes);

// Functions, objects and labels of the symbol table; an empty table for a file that has none, is
// damaged or is no ELF file. C++ names stay as they are. Also for --symbols.
SymbolTable read_elf_symbols(std::span<const std::uint8_t> bytes);

}  // namespace vmm
