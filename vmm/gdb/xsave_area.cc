#include "vmm/gdb/xsave_area.h"

#include <algorithm>

#include "vmm/base/bytes.h"

namespace vmm::gdb {
namespace {

constexpr std::uint32_t kHeader = 512;  // XSTATE_BV is its first word
constexpr std::uint32_t kFirstExtended = kHeader + 64;
constexpr std::uint16_t kInitialFcw = 0x37f;
constexpr std::uint32_t kInitialMxcsr = 0x1f80;
// What FXSAVE's users take for a mask of zero, SDM vol. 1 11.6.6.
constexpr std::uint32_t kDefaultMxcsrMask = 0xffbf;
constexpr unsigned kEmptyTag = 3;

// Without its header nobody could say what of an area counts.
bool is_whole(std::span<const std::uint8_t> area) { return area.size() >= kFirstExtended; }
std::uint64_t xstate_bv(std::span<const std::uint8_t> area) {
  return load<std::uint64_t>(area, kHeader);
}
bool has(std::span<const std::uint8_t> area, unsigned component) {
  return bit(xstate_bv(area), component);
}

std::optional<std::size_t> place_in(std::span<const std::uint8_t> area, const XsaveLayout& layout,
                                    unsigned component, std::uint32_t offset, std::size_t size) {
  if (!is_whole(area) || component >= layout.components.size()) return std::nullopt;
  const XsaveLayout::Range& range = layout.components[component];
  // 64 bits hold these sums.
  if (offset + std::uint64_t{size} > range.size) return std::nullopt;
  if (range.offset + std::uint64_t{range.size} > area.size()) return std::nullopt;
  return std::size_t{range.offset} + offset;
}

void zero(std::span<std::uint8_t> area, std::size_t begin, std::size_t end) {
  std::ranges::fill(area.subspan(begin, end - begin), std::uint8_t{0});
}

// From here on the component's bytes count, so they are made what the processor had.
void make_live(std::span<std::uint8_t> area, const XsaveLayout& layout, unsigned component) {
  if (has(area, component)) return;
  if (component == kX87) {
    zero(area, 0, legacy::kMxcsr);
    zero(area, legacy::kSt0, legacy::kXmm0);
    store(area, legacy::kFcw, kInitialFcw);
  } else if (component == kSse) {
    zero(area, legacy::kXmm0, legacy::kXmmEnd);
  } else {
    const XsaveLayout::Range& range = layout.components[component];
    zero(area, range.offset, std::size_t{range.offset} + range.size);
  }
  if ((component == kSse || component == kAvx) && !has(area, kSse) && !has(area, kAvx))
    store(area, legacy::kMxcsr, kInitialMxcsr);
  store(area, kHeader, xstate_bv(area) | std::uint64_t{1} << component);
}

// What the tag of a register that is not empty says of its content.
unsigned tag_of(std::span<const std::uint8_t> area, unsigned st) {
  const std::size_t at = legacy::kSt0 + std::size_t{16} * st;
  const auto significand = load<std::uint64_t>(area, at);
  const unsigned exponent = load<std::uint16_t>(area, at + 8) & 0x7fffu;
  constexpr unsigned kValid = 0, kZero = 1, kSpecial = 2;
  if (exponent == 0 && significand == 0) return kZero;
  return exponent == 0 || exponent == 0x7fff || !bit(significand, 63) ? kSpecial : kValid;
}

// For the parts of the legacy region, whose places are the same everywhere.
const XsaveLayout& legacy_only() {
  static const XsaveLayout layout = XsaveLayout::of({});
  return layout;
}

}  // namespace

XsaveLayout XsaveLayout::of(const CpuidTable& cpuid) {
  XsaveLayout layout;
  layout.components[kX87] = {0, legacy::kXmm0};
  layout.components[kSse] = {0, legacy::kXmmEnd};
  for (unsigned i = kAvx; i < layout.components.size(); ++i) {
    const CpuidRegs regs = cpuid.get(0xd, i);
    if (regs.ebx >= kFirstExtended) layout.components[i] = {regs.ebx, regs.eax};
  }
  return layout;
}

std::optional<std::array<std::uint8_t, 64>> xsave_read(std::span<const std::uint8_t> area,
                                                       const XsaveLayout& layout,
                                                       unsigned component, std::uint32_t offset,
                                                       std::size_t size) {
  std::array<std::uint8_t, 64> bytes{};
  const auto at = place_in(area, layout, component, offset, size);
  if (!at || size > bytes.size()) return std::nullopt;
  if (has(area, component)) {
    std::ranges::copy(area.subspan(*at, size), bytes.begin());
  } else if (component == kX87 && offset == legacy::kFcw) {
    store(bytes, 0, kInitialFcw);
  }
  return bytes;
}

bool xsave_write(std::span<std::uint8_t> area, const XsaveLayout& layout, unsigned component,
                 std::uint32_t offset, std::span<const std::uint8_t> bytes) {
  const auto at = place_in(area, layout, component, offset, bytes.size());
  if (!at) return false;
  make_live(area, layout, component);
  std::ranges::copy(bytes, area.subspan(*at).begin());
  return true;
}

std::array<std::uint8_t, 512> xsave_legacy(std::span<const std::uint8_t> area) {
  VMM_CHECK(is_whole(area), "an XSAVE area with its header");
  std::array<std::uint8_t, kFirstExtended> live{};
  std::copy_n(area.begin(), live.size(), live.begin());
  make_live(live, legacy_only(), kX87);
  make_live(live, legacy_only(), kSse);
  std::array<std::uint8_t, 512> legacy{};
  std::copy_n(live.begin(), legacy.size(), legacy.begin());
  return legacy;
}

std::optional<std::uint32_t> xsave_mxcsr(std::span<const std::uint8_t> area) {
  if (!is_whole(area)) return std::nullopt;
  if (!has(area, kSse) && !has(area, kAvx)) return kInitialMxcsr;
  return load<std::uint32_t>(area, legacy::kMxcsr);
}

bool xsave_set_mxcsr(std::span<std::uint8_t> area, std::uint32_t value) {
  if (!is_whole(area)) return false;
  make_live(area, legacy_only(), kSse);
  store(area, legacy::kMxcsr, value);
  return true;
}

std::uint32_t xsave_mxcsr_mask(std::span<const std::uint8_t> area) {
  const std::uint32_t mask =
      is_whole(area) ? load<std::uint32_t>(area, legacy::kMxcsrMask) : kDefaultMxcsrMask;
  return mask != 0 ? mask : kDefaultMxcsrMask;
}

std::optional<std::uint16_t> xsave_tag_word(std::span<const std::uint8_t> area) {
  if (!is_whole(area)) return std::nullopt;
  if (!has(area, kX87)) return std::uint16_t{0xffff};
  const unsigned top = static_cast<unsigned>(bits(load<std::uint16_t>(area, legacy::kFsw), 13, 11));
  const auto in_use = load<std::uint8_t>(area, legacy::kFtw);
  unsigned tags = 0;
  // Tags go by physical register, the area's registers by their distance from TOP.
  for (unsigned i = 0; i < 8; ++i)
    tags |= (bit(in_use, i) ? tag_of(area, (i + 8 - top) % 8) : kEmptyTag) << (2 * i);
  return static_cast<std::uint16_t>(tags);
}

bool xsave_set_tag_word(std::span<std::uint8_t> area, std::uint16_t tags) {
  if (!is_whole(area)) return false;
  make_live(area, legacy_only(), kX87);
  unsigned in_use = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (((tags >> (2 * i)) & 3u) != kEmptyTag) in_use |= 1u << i;
  store(area, legacy::kFtw, static_cast<std::uint8_t>(in_use));
  return true;
}

}  // namespace vmm::gdb
