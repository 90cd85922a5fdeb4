#include "loader/elf_headers.h"

#include <elf.h>
#include <fmt/format.h>

#include <array>

#include "loader/elf.h"
#include "vmm/base/bytes.h"

namespace vmm::elf_file {
namespace {

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
          .shnum = raw.e_shnum,
          .shstrndx = raw.e_shstrndx};
}

template <typename Phdr>
ProgramHeader read_program_header(Bytes bytes, std::size_t offset) {
  const auto raw = load<Phdr>(bytes, offset);
  return {.type = raw.p_type,
          .flags = raw.p_flags,
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
          .flags = raw.sh_flags,
          .link = raw.sh_link,
          .offset = raw.sh_offset,
          .size = raw.sh_size,
          .entsize = raw.sh_entsize};
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

}  // namespace

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

std::vector<SectionHeader> read_section_headers(const FileHeader& header, Bytes bytes) {
  std::vector<SectionHeader> all;
  const std::size_t size = header.is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
  if (header.shoff == 0 || header.shentsize != size ||
      !in_file(bytes, header.shoff, std::uint64_t{header.shnum} * size))
    return all;
  for (unsigned i = 0; i < header.shnum; ++i) {
    const auto offset = static_cast<std::size_t>(header.shoff + i * size);
    all.push_back(header.is64 ? read_section_header<Elf64_Shdr>(bytes, offset)
                              : read_section_header<Elf32_Shdr>(bytes, offset));
  }
  return all;
}

}  // namespace vmm::elf_file
