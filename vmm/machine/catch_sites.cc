#include "vmm/machine/catch_sites.h"

#include <algorithm>
#include <iterator>

#include "vmm/core/nested_position.h"
#include "vmm/machine/disassemble.h"

namespace vmm {
namespace {

constexpr std::size_t kEntryBytes = 3;
constexpr std::size_t kLongest = 15;  // of an instruction
// Decoding falls into step with the code within a few instructions, wherever it begins.
constexpr std::size_t kRunUp = 64;

// Whether decoding from `from` on comes to `to`.
bool reaches(std::span<const std::uint8_t> code, std::size_t from, std::size_t to, CpuMode mode) {
  while (from < to) {
    const auto insn =
        decode_instruction(code.subspan(from, std::min(kLongest, code.size() - from)), mode, from);
    if (!insn || insn->length == 0) return false;
    from += insn->length;
  }
  return from == to;
}

// Most ways into the code before it lead there.
bool most_reach(std::span<const std::uint8_t> code, std::size_t at, CpuMode mode) {
  const std::size_t first = at - std::min(at, kRunUp);
  if (first == at) return true;
  std::size_t reached = 0;
  for (std::size_t from = first; from < at; ++from)
    reached += reaches(code, from, at, mode) ? 1 : 0;
  return reached * 2 >= at - first;
}

}  // namespace

std::vector<Gva> find_vm_entries(const LoadedImage& image) {
  std::vector<Gva> found;
  // A format without virtual addresses says where its bytes lie alone.
  for (const Segment& segment : image.segments) {
    if (!segment.executable || segment.file_size > image.bytes.size() ||
        segment.file_offset > image.bytes.size() - segment.file_size)
      continue;
    const auto code = std::span(image.bytes).subspan(segment.file_offset, segment.file_size);
    for (std::size_t at = 0; at + kEntryBytes <= code.size(); ++at) {
      if (!is_vm_entry(code.subspan(at, kEntryBytes))) continue;
      // A 32-bit image may have 64-bit code.
      if (most_reach(code, at, CpuMode::Long64) || most_reach(code, at, CpuMode::Protected32))
        found.push_back((segment.vaddr != 0 ? segment.vaddr : segment.gpa) + at);
    }
  }
  std::ranges::sort(found);
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace vmm
