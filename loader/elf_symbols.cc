// The symbol table of an ELF file; declared in loader/elf.h.
#include <elf.h>

#include <algorithm>

#include "loader/elf.h"
#include "loader/elf_headers.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using namespace elf_file;

struct Symbol {
  std::uint32_t name = 0;
  unsigned char type = 0;
  std::uint16_t section = 0;
  std::uint64_t value = 0;
  std::uint64_t size = 0;
};

template <typename Sym>
Symbol read_symbol(Bytes bytes, std::size_t offset) {
  const auto raw = load<Sym>(bytes, offset);
  return {.name = raw.st_name,
          .type = static_cast<unsigned char>(raw.st_info & 0xf),
          .section = raw.st_shndx,
          .value = raw.st_value,
          .size = raw.st_size};
}

}  // namespace

SymbolTable read_elf_symbols(Bytes bytes) {
  SymbolTable table;
  const auto header = parse_file_header(bytes);
  if (!header) return table;
  const bool is64 = header->is64;
  const std::size_t symbol_size = is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
  const std::vector<SectionHeader> sections = read_section_headers(*header, bytes);
  const auto symtab = std::ranges::find(sections, std::uint32_t{SHT_SYMTAB}, &SectionHeader::type);
  if (symtab == sections.end() || symtab->link >= sections.size() ||
      symtab->entsize != symbol_size || !in_file(bytes, symtab->offset, symtab->size))
    return table;
  const SectionHeader& strtab = sections[symtab->link];
  if (strtab.type != SHT_STRTAB || !in_file(bytes, strtab.offset, strtab.size)) return table;
  const Bytes strings = bytes.subspan(strtab.offset, strtab.size);

  const std::uint64_t count =
      std::min<std::uint64_t>(symtab->size / symbol_size, 2 * SymbolTable::kMaxSymbols);
  const auto add_all = [&](auto&& wanted) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto offset = static_cast<std::size_t>(symtab->offset + i * symbol_size);
      const Symbol symbol =
          is64 ? read_symbol<Elf64_Sym>(bytes, offset) : read_symbol<Elf32_Sym>(bytes, offset);
      if (symbol.section == SHN_UNDEF || symbol.name >= strings.size() || !wanted(symbol)) continue;
      const Bytes rest = strings.subspan(
          symbol.name,
          std::min<std::size_t>(strings.size() - symbol.name, SymbolTable::kMaxName + 1));
      const auto end = std::find(rest.begin(), rest.end(), std::uint8_t{0});
      table.add(std::string(rest.begin(), end), symbol.value, symbol.size);
    }
  };
  // The first name of an address stays: functions and objects come before bare labels of assembly
  // and linker scripts. Absolute labels are constants, not places.
  add_all([](const Symbol& s) { return s.type == STT_FUNC || s.type == STT_OBJECT; });
  add_all([](const Symbol& s) { return s.type == STT_NOTYPE && s.section != SHN_ABS; });
  return table;
}

}  // namespace vmm
