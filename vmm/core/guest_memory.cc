#include "vmm/core/guest_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>

#include "vmm/base/check.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

// Kernels that are linked below this, the small ones and those of tests, touch a few pages: zeroing
// 2 MiB for each would cost them more than it spares. Linux is above it.
constexpr std::uint64_t kSmallKernels = 16_MiB;

std::optional<std::span<std::uint8_t>> span_in(std::span<const GuestMemory::Region> regions,
                                               Gpa gpa, std::uint64_t size) {
  for (const GuestMemory::Region& region : regions) {
    if (gpa < region.base || gpa - region.base >= region.host.size()) continue;
    const std::uint64_t offset = gpa - region.base;
    if (size > region.host.size() - offset) return std::nullopt;
    return region.host.subspan(offset, size);
  }
  return std::nullopt;
}

}  // namespace

Result<void> GuestMemory::check_size(std::uint64_t size) {
  if (size >= 1_MiB && size % 4096 == 0) return {};
  return fail(Error::usage(fmt::format("{} of guest memory is not possible", format_size(size)))
                  .hint("give at least 1M and a multiple of 4K, such as --mem 256M"));
}

Result<GuestMemory> GuestMemory::create(std::uint64_t size, bool vga_trap) {
  VMM_TRY(check_size(size));
  GuestMemory memory;
  auto mapping = Mapping::anonymous(size);
  if (!mapping)
    return fail(std::move(mapping).error().hint("give less with --mem; the host cannot map this"));
  memory.mapping_ = std::move(*mapping);
  const std::span<std::uint8_t> host = memory.mapping_.bytes();
  if (size > kSmallKernels) prefer_huge_pages(host.subspan(kSmallKernels));
  const std::uint64_t low = std::min<std::uint64_t>(size, kHoleStart);
  if (vga_trap) {
    memory.regions_.push_back({0, host.subspan(0, kVgaWindow)});
    constexpr Gpa kAfter = kVgaWindow + kVgaWindowSize;
    memory.regions_.push_back({kAfter, host.subspan(kAfter, low - kAfter)});
  } else {
    memory.regions_.push_back({0, host.subspan(0, low)});
  }
  if (size > low) memory.regions_.push_back({kHoleEnd, host.subspan(low)});
  return memory;
}

std::span<std::uint8_t> GuestMemory::vga_window() const {
  return mapping_.bytes().subspan(kVgaWindow, kVgaWindowSize);
}

Result<void> GuestMemory::add_rom(Gpa base, std::span<const std::uint8_t> bytes) {
  VMM_CHECK(base % 4_KiB == 0 && !bytes.empty() && bytes.size() % 4_KiB == 0,
            "ROM consists of whole pages");
  VMM_CHECK(base >= kHoleStart && base < kHoleEnd && bytes.size() <= kHoleEnd - base,
            "ROM lies in the 32-bit hole");
  rom_mappings_.push_back(VMM_TRY(Mapping::anonymous(bytes.size())));
  const std::span<std::uint8_t> host = rom_mappings_.back().bytes();
  std::copy(bytes.begin(), bytes.end(), host.begin());
  roms_.push_back({base, host});
  return {};
}

std::optional<std::span<std::uint8_t>> GuestMemory::span(Gpa gpa, std::uint64_t size) const {
  return span_in(regions_, gpa, size);
}

bool GuestMemory::is_ram(Gpa gpa, std::uint64_t size) const { return span(gpa, size).has_value(); }

bool GuestMemory::read(Gpa gpa, std::span<std::uint8_t> data) const {
  auto source = span(gpa, data.size());
  if (!source) source = span_in(roms_, gpa, data.size());
  if (!source) return false;
  std::copy(source->begin(), source->end(), data.begin());
  return true;
}

bool GuestMemory::write(Gpa gpa, std::span<const std::uint8_t> data) {
  const auto target = span(gpa, data.size());
  if (!target) return false;
  std::copy(data.begin(), data.end(), target->begin());
  return true;
}

bool GuestMemory::zero(Gpa gpa, std::uint64_t size) {
  if (size == 0) return true;
  const auto target = span(gpa, size);
  if (!target) return false;
  const std::uint64_t before =
      std::min<std::uint64_t>(size, (4_KiB - gpa % 4_KiB) % 4_KiB);  // up to the next page
  const std::uint64_t pages = align_down(size - before, 4_KiB);
  const std::span<std::uint8_t> whole = target->subspan(before, pages);
  // The mapping is private and anonymous (create()): dropped pages read as zeroes.
  const bool dropped = pages != 0 && ::madvise(whole.data(), pages, MADV_DONTNEED) == 0;
  if (!dropped) std::fill(whole.begin(), whole.end(), std::uint8_t{0});
  const std::span<std::uint8_t> head = target->first(before);
  const std::span<std::uint8_t> tail = target->subspan(before + pages);
  std::fill(head.begin(), head.end(), std::uint8_t{0});
  std::fill(tail.begin(), tail.end(), std::uint8_t{0});
  return true;
}

void GuestMemory::clear() {
  const std::span<std::uint8_t> all = mapping_.bytes();
  // The mapping is private and anonymous (create()): dropped pages read as zeroes.
  if (::madvise(all.data(), all.size(), MADV_DONTNEED) != 0)
    std::fill(all.begin(), all.end(), std::uint8_t{0});
}

Gpa GuestMemory::low_end() const {
  Gpa end = 0;
  for (const Region& region : regions_)
    if (region.base < kHoleStart) end = region.base + region.host.size();
  return end;
}

}  // namespace vmm
