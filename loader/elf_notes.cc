// The notes of an ELF file; declared in loader/elf.h.
#include <elf.h>

#include <algorithm>

#include "loader/elf.h"
#include "loader/elf_headers.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using namespace elf_file;

// Notes more than these are not looked at; kernels have a dozen.
constexpr std::size_t kMaxNotes = 1000;

// gABI chapter 5: three words, the name and the description, each padded to 4 bytes (also in 64-bit
// files, whatever the specification says: that is what all linkers write).
void add_notes(Bytes part, std::vector<ElfNote>& notes) {
  constexpr std::size_t kHeader = 12;
  while (part.size() >= kHeader && notes.size() < kMaxNotes) {
    const std::uint64_t name_size = load<std::uint32_t>(part, 0);
    const std::uint64_t desc_size = load<std::uint32_t>(part, 4);
    const std::uint64_t desc_at = kHeader + align_up(name_size, 4);
    if (!in_file(part, kHeader, name_size) || !in_file(part, desc_at, desc_size)) return;
    ElfNote note;
    note.type = load<std::uint32_t>(part, 8);
    const Bytes name = part.subspan(kHeader, name_size);
    note.name.assign(name.begin(), std::find(name.begin(), name.end(), std::uint8_t{0}));
    note.description = part.subspan(desc_at, desc_size);
    notes.push_back(std::move(note));
    const std::uint64_t end = desc_at + align_up(desc_size, 4);
    if (end >= part.size()) return;
    part = part.subspan(end);
  }
}

}  // namespace

std::vector<ElfNote> read_elf_notes(Bytes bytes) {
  std::vector<ElfNote> notes;
  const auto header = parse_file_header(bytes);
  if (!header || !check_file_header(*header, bytes)) return notes;
  for (const ProgramHeader& part : read_program_headers(*header, bytes))
    if (part.type == PT_NOTE && in_file(bytes, part.offset, part.filesz))
      add_notes(bytes.subspan(part.offset, part.filesz), notes);
  return notes;
}

}  // namespace vmm
