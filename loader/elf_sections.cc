#include "loader/elf_sections.h"

#include <elf.h>

#include <cstddef>

#include "loader/elf_headers.h"
#include "vmm/base/bytes.h"

namespace vmm {

void ElfSections::set_address(const Table& table, Gpa gpa) {
  const std::size_t at = std::size_t{table.index} * guest.entry_size;
  if (is64)
    store(guest.headers, at + offsetof(Elf64_Shdr, sh_addr), gpa);
  else
    store(guest.headers, at + offsetof(Elf32_Shdr, sh_addr), static_cast<std::uint32_t>(gpa));
}

ElfSections read_elf_sections(std::span<const std::uint8_t> bytes) {
  using namespace elf_file;
  constexpr std::size_t kMaxHeaders = 16_KiB;
  ElfSections result;
  const auto header = parse_file_header(bytes);
  if (!header) return result;
  const std::vector<SectionHeader> sections = read_section_headers(*header, bytes);
  const std::size_t size = sections.size() * header->shentsize;
  if (sections.empty() || size > kMaxHeaders || header->shstrndx >= sections.size()) return result;
  const auto table = bytes.subspan(header->shoff, size);
  result.is64 = header->is64;
  result.guest = {.headers = {table.begin(), table.end()},
                  .count = static_cast<std::uint32_t>(sections.size()),
                  .entry_size = header->shentsize,
                  .names = header->shstrndx};
  for (unsigned i = 0; i < sections.size(); ++i) {
    const SectionHeader& section = sections[i];
    const bool wanted = section.type == SHT_SYMTAB || section.type == SHT_STRTAB;
    if (wanted && (section.flags & SHF_ALLOC) == 0 && section.size != 0 &&
        in_file(bytes, section.offset, section.size))
      result.tables.push_back({.index = i, .offset = section.offset, .size = section.size});
  }
  return result;
}

}  // namespace vmm
