#include "loader/place.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/boot.h"
#include "loader/boot_info.h"
#include "loader/boot_state.h"
#include "loader/e820.h"
#include "loader/plan.h"
#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

// Where the boot block goes when the image leaves room: below the EBDA, away from the places where
// kernels like to put the 16-bit code of their other processors, and from 8000h-DFFFh, where
// kvm-unit-tests' real-mode test is linked.
constexpr Gpa kPreferredBlock = 0x90000;
constexpr Gpa kLowestBlock = 0xe000;
constexpr std::uint64_t kLargestBlock = kLowRamEnd - kPreferredBlock;

void copy_segment(const LoadedImage& image, const Segment& segment, GuestMemory& memory) {
  const auto source = std::span(image.bytes).subspan(segment.file_offset, segment.file_size);
  const bool done =
      memory.write(segment.gpa, source) &&
      memory.zero(segment.gpa + segment.file_size, segment.memory_size - segment.file_size);
  VMM_CHECK(done, "a segment was checked to lie in RAM");
}

Result<Gpa> find_block(const LoadedImage& image, std::uint64_t size, const Occupied& occupied,
                       const GuestMemory& memory) {
  if (size > kLargestBlock)
    return fail(
        Error::usage(fmt::format("the command line, the module names and the tables for the "
                                 "guest take {} bytes; there is room for {}",
                                 size, kLargestBlock))
            .hint("give a shorter --append, or fewer modules"));
  if (const auto base = occupied.lowest_free(kPreferredBlock, kLowRamEnd, size)) return *base;
  if (const auto base = occupied.lowest_free(kLowestBlock, kLowRamEnd, size)) return *base;
  // Kernels allocate from their own end upwards, so the far end of RAM is the safer one.
  if (const auto base = occupied.highest_free(kExtendedRam, memory.low_end(), size)) return *base;
  return fail(Error::image(fmt::format("the image leaves no {} bytes free for the stack and the "
                                       "tables of the entry state in {} of RAM",
                                       size, format_size(memory.size())))
                  .at(printable(image.path))
                  .hint("give more with --mem"));
}

CpuState entry_state(BootProtocol protocol, const BootBlock& block, std::uint64_t entry,
                     const BootFacts& facts) {
  const ElfArguments arguments{.command_line = block.info(),
                               .e820 = block.info() + elf_map_offset(facts),
                               .e820_count = facts.map.size()};
  switch (protocol) {
    case BootProtocol::Elf64:
      return elf64_state(block, entry, arguments);
    case BootProtocol::Elf32:
      return elf32_state(block, entry, arguments);
    case BootProtocol::Multiboot1:
      return multiboot1_state(block, entry);
    case BootProtocol::Multiboot2:
      return multiboot2_state(block, entry);
    case BootProtocol::Pvh:
      return pvh_state(block, entry);
    case BootProtocol::Linux64:
      return linux64_state(block, entry);
    case BootProtocol::Linux32:
      return linux32_state(block, entry);
    case BootProtocol::Flat:
    case BootProtocol::Efi:  // make_plan() refuses it
    case BootProtocol::Firmware:
      break;
  }
  return flat_state(entry);
}

}  // namespace

void Occupied::add(Gpa base, std::uint64_t size) {
  if (size != 0) ranges_.push_back({base, base + size});
}

const Occupied::Range* Occupied::hit(Gpa base, std::uint64_t size) const {
  for (const Range& range : ranges_)
    if (base < range.end && base + size > range.base) return &range;
  return nullptr;
}

std::optional<Gpa> Occupied::lowest_free(Gpa low, Gpa high, std::uint64_t size) const {
  Gpa base = align_up(low, 4_KiB);
  while (base < high && size <= high - base) {
    const Range* range = hit(base, size);
    if (range == nullptr) return base;
    if (range->end > high) return std::nullopt;
    base = align_up(range->end, 4_KiB);
  }
  return std::nullopt;
}

std::optional<Gpa> Occupied::highest_free(Gpa low, Gpa high, std::uint64_t size) const {
  while (high > low && size <= high - low) {
    const Gpa base = align_down(high - size, 4_KiB);
    if (base < low) return std::nullopt;
    const Range* range = hit(base, size);
    if (range == nullptr) return base;
    high = range->base;
  }
  return std::nullopt;
}

Result<CpuState> place_image(const LoadedImage& image, const BootOptions& options,
                             GuestMemory& memory) {
  VMM_CHECK(image.protocol != BootProtocol::Firmware,
            "firmware is ROM, which is not placed in RAM");
  const Plan plan = VMM_TRY(make_plan(image, options, memory));
  if (image.protocol == BootProtocol::Flat) {
    for (const Segment& segment : plan.segments) copy_segment(image, segment, memory);
    return flat_state(plan.entry);
  }
  // The information's size does not depend on where it stands, so it is made twice.
  const std::uint64_t size =
      BootBlock(image.protocol, 0).fixed_size() + make_boot_info(image, plan.facts, 0).size();
  const BootBlock block(image.protocol, VMM_TRY(find_block(image, size, plan.occupied, memory)));
  const std::vector<std::uint8_t> info = make_boot_info(image, plan.facts, block.info());

  for (const Segment& segment : plan.segments) copy_segment(image, segment, memory);
  bool done = memory.write(block.base(), block.bytes(info));
  for (const Plan::Part& part : plan.parts)
    if (!part.bytes.empty()) done = memory.write(part.gpa, part.bytes) && done;
  VMM_CHECK(done, "modules and the boot block were checked to lie in RAM");
  return entry_state(image.protocol, block, plan.entry, plan.facts);
}

}  // namespace vmm
