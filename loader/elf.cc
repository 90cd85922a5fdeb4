#include "loader/elf.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

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
};

struct ProgramHeader {
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
  std::uint64_t vaddr = 0;
  std::uint64_t paddr = 0;
  std::uint64_t filesz = 0;
  std::uint64_t memsz = 0;
};

struct SectionHeader {
  std::uint32_t type = 0;
  std::uint32_t link = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t entsize = 0;
};

struct Symbol {
  std::uint32_t name = 0;
  unsigned char type = 0;
  std::uint16_t section = 0;
  std::uint64_t value = 0;
  std::uint64_t size = 0;
};

// [offset, offset+size) lies in the file.
bool in_file(Bytes bytes, std::uint64_t offset, std::uint64_t size) {
  return offset <= bytes.size() && size <= bytes.size() - offset;
}

template <typename Ehdr>
FileHeader read_file_header(Bytes bytes) {
  const auto raw = load<Ehdr>(bytes);
  return {.is64 = bytes[EI_CLASS] == ELFCLASS64,
          .type = raw.e_type,
          .machine = raw.e_machine,
          .version = raw.e_version,
          .entry = raw.e_entry,
          .phoff = raw.e_phoff,
          .phentsize = raw.e_phentsize,
          .phnum = raw.e_phnum,
          .shoff = raw.e_shoff,
          .shentsize = raw.e_shentsize,
          .shnum = raw.e_shnum};
}

template <typename Phdr>
ProgramHeader read_program_header(Bytes bytes, std::size_t offset) {
  const auto raw = load<Phdr>(bytes, offset);
  return {.type = raw.p_type,
          .offset = raw.p_offset,
          .vaddr = raw.p_vaddr,
          .paddr = raw.p_paddr,
          .filesz = raw.p_filesz,
          .memsz = raw.p_memsz};
}

template <typename Shdr>
SectionHeader read_section_header(Bytes bytes, std::size_t offset) {
  const auto raw = load<Shdr>(bytes, offset);
  return {.type = raw.sh_type,
          .link = raw.sh_link,
          .offset = raw.sh_offset,
          .size = raw.sh_size,
          .entsize = raw.sh_entsize};
}

template <typename Sym>
Symbol read_symbol(Bytes bytes, std::size_t offset) {
  const auto raw = load<Sym>(bytes, offset);
  return {.name = raw.st_name,
          .type = static_cast<unsigned char>(raw.st_info & 0xf),
          .section = raw.st_shndx,
          .value = raw.st_value,
          .size = raw.st_size};
}

std::string machine_name(unsigned machine) {
  constexpr std::array<std::pair<unsigned, const char*>, 8> kNames = {{{EM_386, "i386"},
                                                                       {EM_X86_64, "x86-64"},
                                                                       {EM_ARM, "ARM"},
                                                                       {EM_AARCH64, "AArch64"},
                                                                       {EM_RISCV, "RISC-V"},
                                                                       {EM_PPC64, "PowerPC"},
                                                                       {EM_MIPS, "MIPS"},
                                                                       {EM_S390, "S/390"}}};
  for (const auto& [number, name] : kNames)
    if (number == machine) return fmt::format("{} ({})", machine, name);
  return fmt::format("{}", machine);
}

// What e_type must be: everything else needs a linker or is a dump.
std::string type_name(unsigned type) {
  switch (type) {
    case ET_REL:
      return "1 (relocatable object)";
    case ET_CORE:
      return "4 (core dump)";
    default:
      return fmt::format("{:x}h", type);
  }
}

tl::unexpected<Error> bad(std::string text) { return fail(Error::image(std::move(text))); }

Result<FileHeader> parse_file_header(Bytes bytes) {
  if (!is_elf(bytes)) return bad("no ELF file: the first four bytes are not 7f 45 4c 46");
  if (bytes.size() < EI_NIDENT)
    return bad(fmt::format("the ELF header is cut off: the file ends at {:x}h", bytes.size()));
  const unsigned elf_class = bytes[EI_CLASS];
  if (elf_class != ELFCLASS32 && elf_class != ELFCLASS64)
    return bad(
        fmt::format("ELF class {} at offset 4h; 1 (32-bit) or 2 (64-bit) is needed", elf_class));
  if (bytes[EI_DATA] != ELFDATA2LSB)
    return bad(
        fmt::format("ELF byte order {} at offset 5h; x86 is 1 (little-endian)", bytes[EI_DATA]));
  if (bytes[EI_VERSION] != EV_CURRENT)
    return bad(fmt::format("ELF version {} at offset 6h; only 1 exists", bytes[EI_VERSION]));
  const bool is64 = elf_class == ELFCLASS64;
  const std::size_t size = is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
  if (bytes.size() < size)
    return bad(fmt::format("the ELF header is cut off: it ends at {:x}h, the file at {:x}h", size,
                           bytes.size()));
  return is64 ? read_file_header<Elf64_Ehdr>(bytes) : read_file_header<Elf32_Ehdr>(bytes);
}

Result<void> check_file_header(const FileHeader& header, Bytes bytes) {
  const unsigned machine = header.is64 ? EM_X86_64 : EM_386;
  if (header.machine != machine)
    return bad(fmt::format("ELF machine {} at offset 12h in a {}-bit file; {} is needed",
                           machine_name(header.machine), header.is64 ? 64 : 32,
                           machine_name(machine)));
  if (header.version != EV_CURRENT)
    return bad(fmt::format("ELF version {:x}h at offset 14h; only 1 exists", header.version));
  if (header.type != ET_EXEC && header.type != ET_DYN) {
    Error error = Error::image(fmt::format(
        "ELF type {} at offset 10h; 2 (executable) or 3 (position-independent) is needed",
        type_name(header.type)));
    if (header.type == ET_REL) return fail(std::move(error).hint("link it to an executable first"));
    return fail(std::move(error));
  }
  const std::size_t size = header.is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
  if (header.phnum == 0)
    return bad("the ELF file has no program headers: nothing says what to load");
  if (header.phnum > kMaxProgramHeaders)
    return bad(fmt::format("{} program headers at offset {}; at most {} are accepted", header.phnum,
                           header.is64 ? "38h" : "2ch", kMaxProgramHeaders));
  if (header.phentsize != size)
    return bad(fmt::format("program headers of {:x}h bytes (e_phentsize); {:x}h is needed",
                           header.phentsize, size));
  const std::uint64_t total = std::uint64_t{header.phnum} * size;
  if (!in_file(bytes, header.phoff, total))
    return bad(
        fmt::format("the {} program headers ({:x}h bytes from offset {:x}h) run over the end "
                    "of the file at {:x}h",
                    header.phnum, total, header.phoff, bytes.size()));
  return {};
}

std::vector<ProgramHeader> read_program_headers(const FileHeader& header, Bytes bytes) {
  std::vector<ProgramHeader> all;
  for (unsigned i = 0; i < header.phnum; ++i) {
    const auto offset =
        static_cast<std::size_t>(header.phoff + std::uint64_t{i} * header.phentsize);
    all.push_back(header.is64 ? read_program_header<Elf64_Phdr>(bytes, offset)
                              : read_program_header<Elf32_Phdr>(bytes, offset));
  }
  return all;
}

Result<Segment> parse_load(const ProgramHeader& header, unsigned number, bool is64, Bytes bytes) {
  const auto wrong = [number](std::string text) {
    return bad(fmt::format("program header {}: {}", number, text));
  };
  if (header.memsz < header.filesz)
    return wrong(
        fmt::format("p_memsz {:x}h is less than p_filesz {:x}h", header.memsz, header.filesz));
  if (header.filesz != 0 && !in_file(bytes, header.offset, header.filesz))
    return wrong(fmt::format("{:x}h bytes from offset {:x}h run over the end of the file at {:x}h",
                             header.filesz, header.offset, bytes.size()));
  // The last byte must be reachable, and the end of a physical range must be a number.
  const std::uint64_t top = is64 ? ~std::uint64_t{0} : 0xffff'ffff;
  const std::uint64_t last = header.memsz - 1;
  if (header.paddr > top || last > top - header.paddr || header.paddr + header.memsz == 0)
    return wrong(
        fmt::format("{:x}h bytes at p_paddr {:x}h wrap around the end of the address space",
                    header.memsz, header.paddr));
  if (header.vaddr > top || last > top - header.vaddr)
    return wrong(
        fmt::format("{:x}h bytes at p_vaddr {:x}h wrap around the end of the address space",
                    header.memsz, header.vaddr));
  return Segment{.gpa = header.paddr,
                 .file_offset = header.filesz != 0 ? header.offset : 0,
                 .file_size = header.filesz,
                 .memory_size = header.memsz,
                 .vaddr = header.vaddr,
                 .number = number};
}

// A position-independent image is loaded where its program headers say, so it needs no relocation
// by a bias. What does need work before its first instruction is refused, because it would run with
// pointers that were never filled in.
Result<void> check_dynamic(const ProgramHeader& header, unsigned number, bool is64, Bytes bytes) {
  if (header.filesz == 0) return {};
  if (!in_file(bytes, header.offset, header.filesz))
    return bad(
        fmt::format("program header {}: the dynamic section ({:x}h bytes from offset {:x}h) "
                    "runs over the end of the file at {:x}h",
                    number, header.filesz, header.offset, bytes.size()));
  const std::size_t size = is64 ? sizeof(Elf64_Dyn) : sizeof(Elf32_Dyn);
  for (std::uint64_t at = 0; header.filesz - at >= size; at += size) {
    const auto offset = static_cast<std::size_t>(header.offset + at);
    std::uint64_t tag = 0;
    std::uint64_t value = 0;
    if (is64) {
      const auto entry = load<Elf64_Dyn>(bytes, offset);
      tag = static_cast<std::uint64_t>(entry.d_tag);
      value = entry.d_un.d_val;
    } else {
      const auto entry = load<Elf32_Dyn>(bytes, offset);
      tag = static_cast<std::uint32_t>(entry.d_tag);
      value = entry.d_un.d_val;
    }
    if (tag == DT_NULL) break;
    if (tag == DT_NEEDED)
      return fail(Error::image(fmt::format("program header {}: the image needs shared libraries "
                                           "(DT_NEEDED at offset {:x}h)",
                                           number, offset))
                      .hint("link the kernel with -static"));
    constexpr std::uint64_t kRelrSize = 35;  // DT_RELRSZ, newer than this <elf.h> may be
    const bool is_relocation =
        tag == DT_RELASZ || tag == DT_RELSZ || tag == DT_PLTRELSZ || tag == kRelrSize;
    if (is_relocation && value != 0)
      return fail(
          Error::image(fmt::format("program header {}: {:x}h bytes of dynamic relocations "
                                   "(tag {} at offset {:x}h); images are loaded as they are",
                                   number, value, tag, offset))
              .hint("link the kernel with -static -no-pie"));
  }
  return {};
}

Result<std::uint64_t> physical_entry(std::uint64_t entry, std::span<const Segment> segments) {
  for (const Segment& segment : segments)
    if (entry >= segment.vaddr && entry - segment.vaddr < segment.memory_size)
      return entry - segment.vaddr + segment.gpa;
  // Some kernels (Linux's vmlinux) give the physical address itself.
  for (const Segment& segment : segments)
    if (entry >= segment.gpa && entry - segment.gpa < segment.memory_size) return entry;
  return bad(fmt::format("the entry point {:x}h (e_entry) lies in no segment", entry));
}

Result<void> check_overlap(std::span<const Segment> sorted) {
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const Segment& a = sorted[i - 1];
    const Segment& b = sorted[i];
    if (b.gpa < a.end())
      return bad(fmt::format("program headers {} and {} overlap in physical memory: {} and {}",
                             a.number, b.number, range_text(a.gpa, a.memory_size),
                             range_text(b.gpa, b.memory_size)));
  }
  return {};
}

}  // namespace

bool is_elf(Bytes bytes) {
  return bytes.size() >= SELFMAG && std::memcmp(bytes.data(), ELFMAG, SELFMAG) == 0;
}

Result<void> parse_elf(LoadedImage& image) {
  const Bytes bytes = image.bytes;
  const FileHeader header = VMM_TRY(parse_file_header(bytes));
  VMM_TRY(check_file_header(header, bytes));
  const std::vector<ProgramHeader> headers = read_program_headers(header, bytes);

  std::vector<Segment> segments;
  bool seen_dynamic = false;
  for (unsigned i = 0; i < headers.size(); ++i) {
    switch (headers[i].type) {
      case PT_INTERP:
        return fail(Error::image(fmt::format("program header {}: the image wants a dynamic linker "
                                             "(PT_INTERP), like a program of an operating system",
                                             i))
                        .hint("link the kernel with -static -nostdlib"));
      case PT_DYNAMIC:
        // One dynamic section is all that the gABI knows.
        if (!seen_dynamic) VMM_TRY(check_dynamic(headers[i], i, header.is64, bytes));
        seen_dynamic = true;
        break;
      case PT_LOAD:
        if (headers[i].memsz == 0 && headers[i].filesz == 0) break;
        segments.push_back(VMM_TRY(parse_load(headers[i], i, header.is64, bytes)));
        break;
      default:
        break;
    }
  }
  if (segments.empty())
    return bad(
        fmt::format("none of the {} program headers loads anything (PT_LOAD)", headers.size()));
  image.entry = VMM_TRY(physical_entry(header.entry, segments));
  std::stable_sort(segments.begin(), segments.end(),
                   [](const Segment& a, const Segment& b) { return a.gpa < b.gpa; });
  VMM_TRY(check_overlap(segments));
  image.segments = std::move(segments);
  image.protocol = header.is64 ? BootProtocol::Elf64 : BootProtocol::Elf32;
  image.symbols = read_elf_symbols(bytes);
  return {};
}

SymbolTable read_elf_symbols(Bytes bytes) {
  SymbolTable table;
  const auto header = parse_file_header(bytes);
  if (!header || header->shoff == 0) return table;
  const bool is64 = header->is64;
  const std::size_t section_size = is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
  const std::size_t symbol_size = is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
  if (header->shentsize != section_size ||
      !in_file(bytes, header->shoff, std::uint64_t{header->shnum} * section_size))
    return table;
  const auto section = [&](unsigned index) {
    const auto offset = static_cast<std::size_t>(header->shoff + index * section_size);
    return is64 ? read_section_header<Elf64_Shdr>(bytes, offset)
                : read_section_header<Elf32_Shdr>(bytes, offset);
  };
  const auto find_symtab = [&]() -> std::optional<SectionHeader> {
    for (unsigned i = 0; i < header->shnum; ++i)
      if (const SectionHeader found = section(i); found.type == SHT_SYMTAB) return found;
    return std::nullopt;
  };
  const auto symtab = find_symtab();
  if (!symtab || symtab->link >= header->shnum || symtab->entsize != symbol_size ||
      !in_file(bytes, symtab->offset, symtab->size))
    return table;
  const SectionHeader strtab = section(symtab->link);
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
