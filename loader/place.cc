#include "loader/place.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/boot.h"
#include "loader/boot_state.h"
#include "loader/e820.h"
#include "loader/multiboot1.h"
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

// The words for a range that is not RAM all over, and what to do about it.
Error not_ram(const LoadedImage& image, const Segment& segment, const GuestMemory& memory) {
  const Gpa end = segment.end();
  const std::string what =
      fmt::format("segment {} at {}", segment.number, range_text(segment.gpa, segment.memory_size));
  std::string ram = range_text(0, memory.low_end());
  if (memory.end() > kHoleEnd) ram += " and " + range_text(kHoleEnd, memory.end() - kHoleEnd);
  const bool in_hole = segment.gpa < kHoleEnd && end > kHoleStart;
  Error error =
      Error::image(in_hole ? fmt::format("{} reaches into the hole for devices, {}; RAM is {}",
                                         what, range_text(kHoleStart, kHoleEnd - kHoleStart), ram)
                           : fmt::format("{} lies outside of RAM, which is {}", what, ram))
          .at(printable(image.path));
  if (segment.gpa == segment.vaddr && segment.gpa >= 64_GiB)
    return std::move(error).hint(
        "the physical address equals the linear one; the linker script can "
        "set it with AT()");
  if (in_hole) return std::move(error).hint("link the kernel to a lower physical address");
  const std::uint64_t needed = end > kHoleEnd ? end - (kHoleEnd - kHoleStart) : end;
  if (needed > 64_GiB) return error;
  return std::move(error).hint(
      fmt::format("--mem {}M is the least that holds the image", align_up(needed, 1_MiB) / 1_MiB));
}

Result<void> check_segment(const LoadedImage& image, const Segment& segment,
                           const GuestMemory& memory) {
  if (segment.gpa < kVgaWindow + kVgaWindowSize && segment.end() > kVgaWindow)
    return fail(
        Error::image(fmt::format("segment {} at {} runs over the screen memory, {}", segment.number,
                                 range_text(segment.gpa, segment.memory_size),
                                 range_text(kVgaWindow, kVgaWindowSize)))
            .at(printable(image.path))
            .hint("kernels are usually linked to 100000h (1 MiB) or above"));
  if (!memory.is_ram(segment.gpa, segment.memory_size))
    return fail(not_ram(image, segment, memory));
  return {};
}

void copy_segment(const LoadedImage& image, const Segment& segment, GuestMemory& memory) {
  const auto source = std::span(image.bytes).subspan(segment.file_offset, segment.file_size);
  const bool done =
      memory.write(segment.gpa, source) &&
      memory.zero(segment.gpa + segment.file_size, segment.memory_size - segment.file_size);
  VMM_CHECK(done, "a segment was checked to lie in RAM");
}

// GRUB legacy and QEMU give a file's name as the first word.
std::string with_name(const std::string& path, const std::string& arguments) {
  return arguments.empty() ? path : path + " " + arguments;
}

// Modules stand above the kernel and below the hole, each on a page of its own.
Result<std::vector<PlacedModule>> plan_modules(const LoadedImage& image, const BootOptions& options,
                                               const GuestMemory& memory) {
  std::vector<PlacedModule> placed;
  Gpa at = align_up(std::max(image.highest(), kExtendedRam), 4_KiB);
  for (const BootModule& module : options.modules) {
    const std::uint64_t size = module.bytes.size();
    if (at > memory.low_end() || size > memory.low_end() - at) {
      const Gpa end = at + size;
      Error error =
          Error::image(fmt::format("the module has {} and would stand at {}; RAM below "
                                   "the hole ends at {:x}h",
                                   format_size(size), range_text(at, size), memory.low_end()))
              .at(printable(module.path));
      if (end > kHoleStart) return fail(std::move(error));
      return fail(std::move(error).hint(
          fmt::format("--mem {}M is the least that holds it", align_up(end, 1_MiB) / 1_MiB)));
    }
    placed.push_back({at, at + size, with_name(module.path, module.arguments)});
    at = align_up(at + size, 4_KiB);
  }
  return placed;
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

// The memory map as INT 15h gives it, behind the command line.
std::vector<std::uint8_t> make_elf_info(const std::string& command_line,
                                        std::span<const E820Entry> map, std::size_t& map_offset) {
  constexpr std::size_t kEntrySize = 20;
  map_offset = align_up(command_line.size() + 1, 8);
  std::vector<std::uint8_t> info(map_offset + map.size() * kEntrySize);
  std::copy(command_line.begin(), command_line.end(), info.begin());
  for (std::size_t i = 0; i < map.size(); ++i) {
    const std::size_t at = map_offset + i * kEntrySize;
    store(info, at, map[i].base);
    store(info, at + 8, map[i].size);
    store(info, at + 16, map[i].type);
  }
  return info;
}

Result<void> check_options(const LoadedImage& image, const BootOptions& options) {
  const std::string_view protocol = protocol_name(image.protocol);
  if (image.protocol != BootProtocol::Multiboot1 && !options.modules.empty())
    return fail(Error::usage(fmt::format("--module: {} boots as {}, which has no modules",
                                         printable(image.path), protocol))
                    .hint("modules need a multiboot1 kernel"));
  if (image.protocol == BootProtocol::Flat && !options.command_line.empty())
    return fail(Error::usage(fmt::format("--append: {} is a flat image, which gets no command line",
                                         printable(image.path))));
  return {};
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
  VMM_TRY(check_options(image, options));
  Occupied occupied;
  for (const Segment& segment : image.segments) {
    VMM_TRY(check_segment(image, segment, memory));
    occupied.add(segment.gpa, segment.memory_size);
  }
  if (image.protocol == BootProtocol::Flat) {
    for (const Segment& segment : image.segments) copy_segment(image, segment, memory);
    return flat_state(image.entry);
  }
  if (image.entry >= BootBlock::kMappedGiB * 1_GiB)
    return fail(Error::image(fmt::format("the entry point {:x}h is above 4 GiB, where the page "
                                         "tables of the entry state end",
                                         image.entry))
                    .at(printable(image.path)));

  const std::vector<E820Entry> map = make_e820(memory);
  const std::string command_line = with_name(image.path, options.command_line);
  std::vector<PlacedModule> modules;
  if (image.protocol == BootProtocol::Multiboot1)
    modules = VMM_TRY(plan_modules(image, options, memory));
  for (const PlacedModule& module : modules) occupied.add(module.start, module.end - module.start);

  // The information's size does not depend on where it stands, so it is made twice.
  std::size_t map_offset = 0;
  const auto make_info = [&](Gpa base) {
    return image.protocol == BootProtocol::Multiboot1
               ? make_multiboot1_info(base, command_line, modules, map, memory.low_end())
               : make_elf_info(command_line, map, map_offset);
  };
  const std::uint64_t size = BootBlock(image.protocol, 0).fixed_size() + make_info(0).size();
  const BootBlock block(image.protocol, VMM_TRY(find_block(image, size, occupied, memory)));
  const std::vector<std::uint8_t> info = make_info(block.info());

  for (const Segment& segment : image.segments) copy_segment(image, segment, memory);
  bool done = memory.write(block.base(), block.bytes(info));
  for (std::size_t i = 0; i < modules.size(); ++i)
    if (modules[i].end > modules[i].start)
      done = memory.write(modules[i].start, options.modules[i].bytes) && done;
  VMM_CHECK(done, "modules and the boot block were checked to lie in RAM");

  const ElfArguments arguments{
      .command_line = block.info(), .e820 = block.info() + map_offset, .e820_count = map.size()};
  switch (image.protocol) {
    case BootProtocol::Elf64:
      return elf64_state(block, image.entry, arguments);
    case BootProtocol::Elf32:
      return elf32_state(block, image.entry, arguments);
    default:
      return multiboot1_state(block, image.entry);
  }
}

}  // namespace vmm
