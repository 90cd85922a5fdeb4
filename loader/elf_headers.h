// The headers of an ELF file, read with care: for the readers of segments, notes, sections and
// symbols beside this file.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"

namespace vmm::elf_file {

using Bytes = std::span<const std::uint8_t>;

// The parts of both classes' structures that matter, at the width of the larger.
struct FileHeader {
  bool is64 = false;
  std::uint16_t type = 0;
  std::uint16_t machine = 0;
  std::uint32_t version = 0;
  std::uint64_t entry = 0;
  std::uint64_t phoff = 0;
  std::uint16_t phentsize = 0;
  std::uint16_t phnum = 0;
  std::uint64_t shoff = 0;
  std::uint16_t shentsize = 0;
  std::uint16_t shnum = 0;
  std::uint16_t shstrndx = 0;
};

struct ProgramHeader {
  std::uint32_t type = 0;
  std::uint32_t flags = 0;
  std::uint64_t offset = 0;
  std::uint64_t vaddr = 0;
  std::uint64_t paddr = 0;
  std::uint64_t filesz = 0;
  std::uint64_t memsz = 0;
};

struct SectionHeader {
  std::uint32_t type = 0;
  std::uint64_t flags = 0;
  std::uint32_t link = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t entsize = 0;
};

// [offset, offset + size) lies in the file.
inline bool in_file(Bytes bytes, std::uint64_t offset, std::uint64_t size) {
  return offset <= bytes.size() && size <= bytes.size() - offset;
}

// Image errors for a file that is no ELF file, of a class, byte order or version that does not
// exist on x86, or shorter than its header.
Result<FileHeader> parse_file_header(Bytes bytes);
// Image errors for what cannot be loaded: another machine, an object file, a dump, program headers
// that are too many, of another size or outside of the file.
Result<void> check_file_header(const FileHeader& header, Bytes bytes);
// Of a header that was checked.
std::vector<ProgramHeader> read_program_headers(const FileHeader& header, Bytes bytes);
// All section headers; none when there are none, or when they are of another size or outside of the
// file.
std::vector<SectionHeader> read_section_headers(const FileHeader& header, Bytes bytes);

}  // namespace vmm::elf_file
