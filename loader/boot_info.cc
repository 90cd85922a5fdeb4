#include "loader/boot_info.h"

#include <algorithm>

#include "loader/boot_params.h"
#include "loader/multiboot1.h"
#include "loader/multiboot2.h"
#include "loader/pvh.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

// The command line, and the memory map as INT 15h gives it.
std::vector<std::uint8_t> make_elf_info(const BootFacts& facts) {
  constexpr std::size_t kEntrySize = 20;
  std::vector<std::uint8_t> info(facts.command_line.begin(), facts.command_line.end());
  info.resize(elf_map_offset(facts) + facts.map.size() * kEntrySize);
  for (std::size_t i = 0; i < facts.map.size(); ++i) {
    const std::size_t at = elf_map_offset(facts) + i * kEntrySize;
    store(info, at, facts.map[i].base);
    store(info, at + 8, facts.map[i].size);
    store(info, at + 16, facts.map[i].type);
  }
  return info;
}

}  // namespace

std::size_t elf_map_offset(const BootFacts& facts) {
  return align_up(facts.command_line.size() + 1, 8);
}

std::vector<std::uint8_t> make_boot_info(const LoadedImage& image, const BootFacts& facts,
                                         Gpa base) {
  switch (image.protocol) {
    case BootProtocol::Multiboot1:
      return make_multiboot1_info(facts, base);
    case BootProtocol::Multiboot2:
      return make_multiboot2_info(facts, base);
    case BootProtocol::Pvh:
      return make_pvh_info(facts, base);
    case BootProtocol::Linux64:
    case BootProtocol::Linux32:
      return make_boot_params(image, facts, base);
    case BootProtocol::Elf64:
    case BootProtocol::Elf32:
    case BootProtocol::Flat:
    case BootProtocol::Efi:
    case BootProtocol::Firmware:
      break;
  }
  return make_elf_info(facts);
}

}  // namespace vmm
