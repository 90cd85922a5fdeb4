#include "loader/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "loader/acpi_tables.h"
#include "loader/boot_params.h"
#include "loader/boot_state.h"
#include "loader/e820.h"
#include "loader/elf_sections.h"
#include "loader/firmware_tables.h"
#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

bool is_multiboot(BootProtocol protocol) {
  return protocol == BootProtocol::Multiboot1 || protocol == BootProtocol::Multiboot2;
}

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
  const Gpa last = std::max(end, image.lowest() + image.room);
  const std::uint64_t needed = last > kHoleEnd ? last - (kHoleEnd - kHoleStart) : last;
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

// GRUB legacy and QEMU give a file's name as the first word.
std::string with_name(const std::string& path, const std::string& arguments) {
  return arguments.empty() ? path : path + " " + arguments;
}

// "--mem 300M is the least that holds it", where more RAM below the hole helps.
Error with_least_memory(Error error, Gpa end) {
  if (end > kHoleStart) return error;
  return std::move(error).hint(
      fmt::format("--mem {}M is the least that holds it", align_up(end, 1_MiB) / 1_MiB));
}

// A kernel that can be moved goes where it prefers to be (Multiboot2 section 3.1.12). All of RAM
// above 1 MiB is still free.
Result<void> relocate(const LoadedImage& image, const GuestMemory& memory, Plan& plan) {
  if (!image.relocation) return {};
  const Relocation& wish = *image.relocation;
  const Gpa linked = plan.lowest();
  const std::uint64_t size = plan.highest() - linked;
  const Gpa low = align_up(std::max(wish.min, kExtendedRam), wish.alignment);
  const Gpa high = std::min(wish.max + 1, memory.low_end());
  if (high < size || low > high - size)
    return fail(
        with_least_memory(Error::image(fmt::format("the kernel has {:x}h bytes and wants to stand "
                                                   "between {:x}h and {:x}h; RAM below the hole "
                                                   "ends at {:x}h",
                                                   size, wish.min, wish.max, memory.low_end()))
                              .at(printable(image.path)),
                          low + size));
  Gpa base = low;
  if (wish.preference == Relocation::Preference::High)
    base = align_down(high - size, wish.alignment);
  else if (wish.preference == Relocation::Preference::None && linked >= low &&
           linked <= high - size && linked % wish.alignment == 0)
    base = linked;
  for (Segment& segment : plan.segments) segment.gpa = segment.gpa - linked + base;
  plan.entry = plan.entry - linked + base;
  plan.facts.load_base = base;
  return {};
}

Result<void> plan_segments(const LoadedImage& image, const GuestMemory& memory, Plan& plan) {
  for (const Segment& segment : plan.segments) {
    VMM_TRY(check_segment(image, segment, memory));
    plan.occupied.add(segment.gpa, segment.memory_size);
  }
  if (image.room == 0) return {};
  if (!memory.is_ram(plan.lowest(), image.room)) {
    const Gpa end = plan.lowest() + image.room;
    return fail(with_least_memory(
        Error::image(fmt::format("the kernel needs {} from {:x}h on before it looks at its memory "
                                 "map; RAM below the hole ends at {:x}h",
                                 format_size(image.room), plan.lowest(), memory.low_end()))
            .at(printable(image.path)),
        end));
  }
  plan.occupied.add(plan.lowest(), image.room);
  return {};
}

// Modules of Multiboot stand above the kernel and below the hole, each on a page of its own; those
// of a kernel that was moved away from below, from 1 MiB on.
Result<void> plan_modules(const BootOptions& options, const GuestMemory& memory, Plan& plan) {
  Gpa at = plan.facts.load_base ? kExtendedRam : std::max(plan.highest(), kExtendedRam);
  for (const BootModule& module : options.modules) {
    const std::uint64_t size = module.bytes.size();
    at = align_up(at, 4_KiB);
    // An empty one needs no place.
    const auto place = size == 0 && at <= memory.low_end()
                           ? std::optional(at)
                           : plan.occupied.lowest_free(at, memory.low_end(), size);
    if (!place)
      return fail(with_least_memory(
          Error::image(fmt::format("the module has {} and would stand at {}; RAM below the hole "
                                   "ends at {:x}h",
                                   format_size(size), range_text(at, size), memory.low_end()))
              .at(printable(module.path)),
          std::max(at, plan.highest()) + size));
    at = *place + size;
    plan.facts.modules.push_back({*place, at, with_name(module.path, module.arguments)});
    plan.occupied.add(*place, size);
    plan.parts.push_back({*place, module.bytes});
  }
  return {};
}

// What kernels that use their own end as the begin of their heap are given stands as high as
// possible.
Result<void> plan_high(Bytes bytes, const std::string& what, std::string text, Gpa limit,
                       const GuestMemory& memory, Plan& plan) {
  const Gpa end = std::min(memory.low_end(), limit);
  const std::uint64_t size = std::max<std::size_t>(bytes.size(), 1);
  const auto place = plan.occupied.highest_free(kExtendedRam, end, size);
  if (!place) {
    Error error =
        Error::image(fmt::format("{} has {}; below {:x}h there is no room for it beside "
                                 "the kernel, {}",
                                 what, format_size(bytes.size()), end,
                                 range_text(plan.lowest(), plan.highest() - plan.lowest())));
    return fail(with_least_memory(std::move(error), plan.highest() + bytes.size() + 16_MiB));
  }
  plan.occupied.add(*place, bytes.size());
  plan.facts.modules.push_back({*place, *place + bytes.size(), std::move(text)});
  plan.parts.push_back({*place, bytes});
  return {};
}

Result<void> plan_initrd(const BootOptions& options, Gpa limit, const GuestMemory& memory,
                         Plan& plan) {
  if (options.initrd.empty()) return {};
  return plan_high(options.initrd, "the initrd", {}, limit, memory, plan);
}

// The section headers of a Multiboot kernel and its symbols; without room for them it gets none.
void plan_sections(const LoadedImage& image, const GuestMemory& memory, Plan& plan) {
  ElfSections sections = read_elf_sections(image.bytes);
  for (const ElfSections::Table& table : sections.tables) {
    const auto place = plan.occupied.lowest_free(std::max(plan.highest(), kExtendedRam),
                                                 memory.low_end(), table.size);
    if (!place) return;
    plan.occupied.add(*place, table.size);
    plan.parts.push_back({*place, Bytes(image.bytes).subspan(table.offset, table.size)});
    sections.set_address(table, *place);
  }
  plan.facts.sections = std::move(sections.guest);
}

Result<void> plan_linux(const LoadedImage& image, const BootOptions& options,
                        const GuestMemory& memory, Plan& plan) {
  plan.facts.command_line = options.command_line;
  const std::size_t longest = command_line_limit(image);
  if (options.command_line.size() > longest)
    return fail(
        Error::usage(fmt::format("the command line has {} characters; this kernel takes {} "
                                 "at most (cmdline_size at 238h of its bzImage)",
                                 options.command_line.size(), longest)));
  return plan_initrd(options, initrd_limit(image), memory, plan);
}

Result<void> check_options(const LoadedImage& image, const BootOptions& options) {
  const std::string_view protocol = protocol_name(image.protocol);
  const bool is_linux =
      image.protocol == BootProtocol::Linux64 || image.protocol == BootProtocol::Linux32;
  const bool has_modules = is_multiboot(image.protocol) || image.protocol == BootProtocol::Pvh;
  if (!has_modules && !options.modules.empty())
    return fail(Error::usage(fmt::format("--module: {} boots as {}, which has no modules",
                                         printable(image.path), protocol))
                    .hint(is_linux ? "--initrd and --initrd-add carry files to Linux"
                                   : "modules need a multiboot1, multiboot2 or pvh kernel"));
  if (!is_linux && image.protocol != BootProtocol::Pvh && !options.initrd.empty())
    return fail(
        Error::usage(fmt::format("--initrd: {} boots as {}, which has no initrd",
                                 printable(image.path), protocol))
            .hint(has_modules ? "give it as --module FILE" : "Linux and PVH kernels have one"));
  if (image.protocol == BootProtocol::Flat && !options.command_line.empty())
    return fail(Error::usage(fmt::format("--append: {} is a flat image, which gets no command line",
                                         printable(image.path))));
  return {};
}

// The pointer that the firmware's tables begin with, where they were placed.
std::vector<std::uint8_t> placed_rsdp(const GuestMemory& memory) {
  std::vector<std::uint8_t> rsdp(kRsdpSize);
  constexpr std::string_view kSignature = "RSD PTR ";
  if (!memory.read(kRsdp, rsdp) || !std::equal(kSignature.begin(), kSignature.end(), rsdp.begin()))
    return {};
  return rsdp;
}

}  // namespace

Result<Plan> make_plan(const LoadedImage& image, const BootOptions& options,
                       const GuestMemory& memory) {
  if (image.protocol == BootProtocol::Efi)
    return fail(
        Error::image(
            "this is a UEFI image, which only firmware can start: it expects boot services")
            .at(printable(image.path))
            .hint(
                "a kernel that starts without firmware is an ELF file, a bzImage or a flat image"));
  VMM_TRY(check_options(image, options));
  Plan plan;
  plan.segments = image.segments;
  plan.entry = image.entry;
  VMM_TRY(relocate(image, memory, plan));
  VMM_TRY(plan_segments(image, memory, plan));
  if (image.protocol == BootProtocol::Flat) return plan;
  if (plan.entry >= BootBlock::kMappedGiB * 1_GiB)
    return fail(Error::image(fmt::format("the entry point {:x}h is above 4 GiB, where the page "
                                         "tables of the entry state end",
                                         plan.entry))
                    .at(printable(image.path)));
  BootFacts& facts = plan.facts;
  facts.map = make_e820(memory);
  facts.low_end = memory.low_end();
  facts.rsdp = placed_rsdp(memory);
  facts.rsdp_at = facts.rsdp.empty() ? 0 : kRsdp;
  facts.screen = options.screen;
  facts.command_line = with_name(image.path, options.command_line);
  switch (image.protocol) {
    case BootProtocol::Multiboot1:
    case BootProtocol::Multiboot2:
      VMM_TRY(plan_modules(options, memory, plan));
      plan_sections(image, memory, plan);
      break;
    case BootProtocol::Linux64:
    case BootProtocol::Linux32:
      VMM_TRY(plan_linux(image, options, memory, plan));
      break;
    case BootProtocol::Pvh:
      // Xen and Linux read it as options only.
      facts.command_line = options.command_line;
      VMM_TRY(plan_initrd(options, kHoleStart, memory, plan));
      for (const BootModule& module : options.modules)
        VMM_TRY(plan_high(module.bytes, "the module " + printable(module.path), module.arguments,
                          kHoleStart, memory, plan));
      break;
    case BootProtocol::Elf64:
    case BootProtocol::Elf32:
    case BootProtocol::Flat:
    case BootProtocol::Efi:
    case BootProtocol::Firmware:
      break;
  }
  return plan;
}

}  // namespace vmm
