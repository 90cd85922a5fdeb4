// ELF32 and ELF64 images for x86, by their program headers (gABI chapters 4 and 5). Sections matter
// only for symbols.
#pragma once

#include <cstdint>
#include <span>

#include "loader/image.h"

namespace vmm {

// An image with more program headers than this is refused.
constexpr unsigned kMaxProgramHeaders = 256;

// True when the file starts with 7fh 'E' 'L' 'F'.
bool is_elf(std::span<const std::uint8_t> bytes);

// Reads image.bytes and sets protocol (Elf32 or Elf64), segments, entry and symbols. Image errors
// name the offset or the program header, and the value found there.
Result<void> parse_elf(LoadedImage& image);

// Functions, objects and labels of the symbol table; an empty table for a file that has none, is
// damaged or is no ELF file. C++ names stay as they are. Also for --symbols.
SymbolTable read_elf_symbols(std::span<const std::uint8_t> bytes);

}  // namespace vmm
