// For tests: kernel modules, kernel images and packages that hold just what is read here.
#pragma once

#include <elf.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {

// An ELF object with the section names and .modinfo, as `entries` has it ("depends=a,b\0...").
inline std::vector<std::uint8_t> build_module(std::string_view entries) {
  using namespace std::string_view_literals;
  const std::string_view names = "\0.shstrtab\0.modinfo\0"sv;
  const std::size_t names_at = sizeof(Elf64_Ehdr);
  const std::size_t info_at = names_at + names.size();
  const std::size_t sections_at = align_up(info_at + entries.size(), 8);
  std::vector<std::uint8_t> bytes(sections_at + 3 * sizeof(Elf64_Shdr));
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_REL;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_shoff = sections_at;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 3;
  header.e_shstrndx = 1;
  store(bytes, 0, header);
  std::memcpy(bytes.data() + names_at, names.data(), names.size());
  if (!entries.empty()) std::memcpy(bytes.data() + info_at, entries.data(), entries.size());
  Elf64_Shdr section{};
  section.sh_type = SHT_STRTAB;
  section.sh_name = 1;
  section.sh_offset = names_at;
  section.sh_size = names.size();
  store(bytes, sections_at + sizeof section, section);
  section.sh_type = SHT_PROGBITS;
  section.sh_name = 11;
  section.sh_offset = info_at;
  section.sh_size = entries.size();
  store(bytes, sections_at + 2 * sizeof section, section);
  return bytes;
}

inline std::vector<std::uint8_t> build_module(std::string_view depends, std::string_view release) {
  using namespace std::string_literals;
  return build_module("license=GPL\0depends="s + std::string(depends) + "\0vermagic="s +
                      std::string(release) + " SMP preempt\0"s);
}

// The header of a bzImage of this release; there is no kernel behind it.
inline std::vector<std::uint8_t> build_bzimage(std::string_view release) {
  std::vector<std::uint8_t> bytes(5 * 512);
  bytes[0x1f1] = 3;
  store<std::uint16_t>(bytes, 0x1fe, 0xaa55);
  store<std::uint32_t>(bytes, 0x202, 0x53726448);
  store<std::uint16_t>(bytes, 0x206, 0x020f);
  store<std::uint16_t>(bytes, 0x20e, 0x400);
  const std::string text = std::string(release) + " (someone@here) #1 SMP";
  std::memcpy(bytes.data() + 0x600, text.data(), text.size());
  return bytes;
}

}  // namespace vmm
