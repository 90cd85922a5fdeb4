#include "loader/pvh.h"

#include <fmt/format.h>

#include "loader/elf.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

constexpr std::uint32_t kPhys32Entry = 18;
constexpr std::uint32_t kStartMagic = 0x336e'c578;

struct StartInfo {
  std::uint32_t magic = kStartMagic;
  std::uint32_t version = 1;
  std::uint32_t flags = 0;
  std::uint32_t module_count = 0;
  std::uint64_t modules = 0;
  std::uint64_t command_line = 0;
  std::uint64_t rsdp = 0;
  std::uint64_t map = 0;
  std::uint32_t map_count = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct Module {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  std::uint64_t command_line = 0;
  std::uint64_t reserved = 0;
};

struct MapEntry {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  std::uint32_t type = 0;
  std::uint32_t reserved = 0;
};

}  // namespace

std::optional<std::uint64_t> find_pvh_entry(std::span<const std::uint8_t> bytes) {
  for (const ElfNote& note : read_elf_notes(bytes)) {
    if (note.name != "Xen" || note.type != kPhys32Entry) continue;
    if (note.description.size() == 4) return load<std::uint32_t>(note.description);
    if (note.description.size() == 8) return load<std::uint64_t>(note.description);
  }
  return std::nullopt;
}

Result<void> parse_pvh(LoadedImage& image) {
  const auto entry = find_pvh_entry(image.bytes);
  if (!entry)
    return fail(
        Error::image("no PVH note (name \"Xen\", type 18, XEN_ELFNOTE_PHYS32_ENTRY) in its "
                     "PT_NOTE segments"));
  VMM_TRY(parse_elf(image));
  const bool loaded = image.loads(*entry);
  if (!loaded || *entry >= 4_GiB)
    return fail(Error::image(fmt::format("the PVH entry {:x}h (note of type 18) lies {}", *entry,
                                         loaded ? "above 4 GiB" : "in no segment")));
  image.entry = *entry;
  image.protocol = BootProtocol::Pvh;
  return {};
}

std::vector<std::uint8_t> make_pvh_info(const BootFacts& facts, Gpa base) {
  // start_info, memory map, modules, strings.
  const std::size_t map_at = align_up(sizeof(StartInfo), 16);
  const std::size_t modules_at = map_at + facts.map.size() * sizeof(MapEntry);
  std::size_t string_at = modules_at + facts.modules.size() * sizeof(Module);
  std::vector<std::uint8_t> info(string_at);
  const auto put_string = [&](const std::string& text) {
    const std::uint64_t address = base + string_at;
    info.insert(info.end(), text.begin(), text.end());
    info.push_back(0);
    string_at = info.size();
    return address;
  };
  const StartInfo start{.module_count = static_cast<std::uint32_t>(facts.modules.size()),
                        .modules = facts.modules.empty() ? 0 : base + modules_at,
                        .command_line = put_string(facts.command_line),
                        .rsdp = facts.rsdp_at,
                        .map = base + map_at,
                        .map_count = static_cast<std::uint32_t>(facts.map.size())};
  store(info, 0, start);
  for (std::size_t i = 0; i < facts.map.size(); ++i)
    store(info, map_at + i * sizeof(MapEntry),
          MapEntry{
              .address = facts.map[i].base, .size = facts.map[i].size, .type = facts.map[i].type});
  for (std::size_t i = 0; i < facts.modules.size(); ++i) {
    const PlacedModule& module = facts.modules[i];
    const Module entry{.address = module.start,
                       .size = module.size(),
                       .command_line = module.text.empty() ? 0 : put_string(module.text)};
    store(info, modules_at + i * sizeof(Module), entry);
  }
  return info;
}

}  // namespace vmm
