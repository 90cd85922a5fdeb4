#include "vmm/gdb/core_file.h"

#include <elf.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "vmm/base/units.h"
#include "vmm/gdb/core_notes.h"

namespace vmm::gdb {
namespace {

// PT_NOTE and what follows it are counted in 16 bits; FFFFh would mean more.
constexpr std::size_t kMostSegments = 0xfffe;

struct LoadedPart {
  std::uint64_t linear;
  Gpa physical;
  std::uint64_t size;
  std::size_t region;  // whose bytes
  std::uint64_t at;    // in it
};

// The parts of `range` that are RAM with a place in the file.
void add_parts(const CoreSpec& spec, const CoreHeader& header, const MappedRange& range,
               std::vector<LoadedPart>& segments) {
  for (std::size_t i = 0; i < spec.memory.size(); ++i) {
    const CoreRegion& region = spec.memory[i];
    if (!header.offsets[i]) continue;
    const Gpa first = std::max(range.physical, region.physical);
    const Gpa last = std::min(range.physical + (range.size - 1), region.physical + region.size - 1);
    if (first > last) continue;
    segments.push_back({range.linear + (first - range.physical), first, last - first + 1, i,
                        first - region.physical});
  }
}

template <typename Ehdr, typename Phdr>
void write_header(const std::vector<LoadedPart>& segments, const std::vector<std::uint8_t>& notes,
                  CoreHeader& header) {
  constexpr bool kWide = std::is_same_v<Ehdr, Elf64_Ehdr>;
  Ehdr elf{};
  std::copy_n(ELFMAG, SELFMAG, elf.e_ident);
  elf.e_ident[EI_CLASS] = kWide ? ELFCLASS64 : ELFCLASS32;
  elf.e_ident[EI_DATA] = ELFDATA2LSB;
  elf.e_ident[EI_VERSION] = EV_CURRENT;
  elf.e_type = ET_CORE;
  elf.e_machine = kWide ? EM_X86_64 : EM_386;
  elf.e_version = EV_CURRENT;
  elf.e_phoff = sizeof elf;
  elf.e_ehsize = sizeof elf;
  elf.e_phentsize = sizeof(Phdr);
  elf.e_phnum = static_cast<std::uint16_t>(segments.size() + 1);
  const std::span out(header.bytes);
  store(out, 0, elf);

  std::size_t at = sizeof elf;
  const std::size_t notes_at = at + (segments.size() + 1) * sizeof(Phdr);
  const auto add = [&](const Phdr& entry) {
    store(out, at, entry);
    at += sizeof entry;
  };
  Phdr note{};
  note.p_type = PT_NOTE;
  note.p_offset = static_cast<decltype(note.p_offset)>(notes_at);
  note.p_filesz = static_cast<decltype(note.p_filesz)>(notes.size());
  note.p_align = 4;
  add(note);
  for (const LoadedPart& segment : segments) {
    Phdr load{};
    load.p_type = PT_LOAD;
    load.p_flags = PF_R | PF_W | PF_X;
    load.p_offset =
        static_cast<decltype(load.p_offset)>(*header.offsets[segment.region] + segment.at);
    load.p_vaddr = static_cast<decltype(load.p_vaddr)>(segment.linear);
    load.p_paddr = static_cast<decltype(load.p_paddr)>(segment.physical);
    load.p_filesz = static_cast<decltype(load.p_filesz)>(segment.size);
    load.p_memsz = load.p_filesz;
    load.p_align = 4_KiB;
    add(load);
  }
  std::copy(notes.begin(), notes.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
}

}  // namespace

CoreHeader core_header(const CoreSpec& spec) {
  const bool wide = spec.arch == Arch::X86_64;
  CoreHeader header;
  header.complete = spec.all_mapped;
  // Which parts of which ranges, first with every region that a 32-bit offset may reach.
  constexpr std::uint64_t kNarrowEnd = std::numeric_limits<std::uint32_t>::max();
  std::uint64_t before = 0;
  for (const CoreRegion& region : spec.memory) {
    // Headers and notes are far below 16 MiB.
    const bool fits = wide || (region.physical + region.size <= 4_GiB &&
                               before + region.size + 16_MiB <= kNarrowEnd);
    header.offsets.push_back(fits ? std::optional<std::uint64_t>(before) : std::nullopt);
    header.complete = header.complete && fits;
    if (fits) before += region.size;
  }
  std::vector<LoadedPart> segments;
  for (const MappedRange& range : spec.mapped) {
    if (range.size == 0) continue;
    add_parts(spec, header, range, segments);
  }
  const std::size_t most = kMostSegments - 1 - spec.memory.size();
  if (segments.size() > most) {
    segments.resize(most);
    header.complete = false;
  }
  if (wide)
    for (const CoreRegion& region : spec.memory)
      add_parts(spec, header, {kPhysicalWindow + region.physical, region.physical, region.size},
                segments);

  const std::vector<std::uint8_t> notes = core_notes(spec);
  const std::size_t entries = segments.size() + 1;
  const std::size_t size = wide ? sizeof(Elf64_Ehdr) + entries * sizeof(Elf64_Phdr)
                                : sizeof(Elf32_Ehdr) + entries * sizeof(Elf32_Phdr);
  header.bytes.resize(align_up(size + notes.size(), 4_KiB));
  for (auto& offset : header.offsets)
    if (offset) *offset += header.bytes.size();
  header.file_size = header.bytes.size() + before;
  if (wide)
    write_header<Elf64_Ehdr, Elf64_Phdr>(segments, notes, header);
  else
    write_header<Elf32_Ehdr, Elf32_Phdr>(segments, notes, header);
  return header;
}

}  // namespace vmm::gdb
