#include "vmm/cpu/xsave.h"

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/cpu/features.h"

namespace vmm {
namespace {

constexpr std::uint32_t kLegacyAndHeader = 512 + 64;
constexpr std::uint32_t kSupervisor = 1U << 0;
constexpr std::uint32_t kAligned = 1U << 1;
constexpr std::uint32_t kXfd = 1U << 2;
constexpr unsigned kCetUser = 11;
constexpr unsigned kCetSupervisor = 12;

constexpr std::array<XsaveComponent, 9> kIntel = {{
    {2, "avx", 256, 576, 0},
    {3, "mpx", 64, 960, 0},
    {4, "mpx", 64, 1024, 0},
    {5, "avx512f", 64, 1088, 0},
    {6, "avx512f", 512, 1152, 0},
    {7, "avx512f", 1024, 1664, 0},
    {9, "pku", 8, 2688, 0},
    {17, "amx-tile", 64, 2752, kAligned},
    {18, "amx-tile", 8192, 2816, kAligned | kXfd},
}};

// Zen has no MPX and leaves no room for it (measured on Milan and Genoa).
constexpr std::array<XsaveComponent, 5> kAmd = {{
    {2, "avx", 256, 576, 0},
    {5, "avx512f", 64, 832, 0},
    {6, "avx512f", 512, 896, 0},
    {7, "avx512f", 1024, 1408, 0},
    {9, "pku", 8, 2432, 0},
}};

}  // namespace

std::span<const XsaveComponent> xsave_layout(bool amd) {
  if (amd) return kAmd;
  return kIntel;
}

void build_xsave(CpuidTable& table, bool amd, const CpuidTable& given) {
  const std::uint32_t flags = table.get(0xd, 1).eax;
  table.erase(0xd);
  if (!has_feature(table, "xsave")) return;

  std::uint64_t xcr0 = 3;  // x87 and SSE
  std::uint32_t end = kLegacyAndHeader;
  const auto place = [&](unsigned number, const CpuidRegs& regs) {
    xcr0 |= std::uint64_t{1} << number;
    table.at(0xd, number) = regs;
    end = std::max(end, regs.ebx + regs.eax);
  };
  // The bit of D.1.EAX is a feature (xfd) like any other: AMX does not exist without it.
  const bool xfd = bit(flags, 4);
  for (const XsaveComponent& c : xsave_layout(amd)) {
    if (!has_feature(table, c.feature) || ((c.flags & kXfd) != 0 && !xfd)) continue;
    const CpuidRegs* own = given.find(0xd, c.number);
    if (own != nullptr && own->eax != 0 && own->eax <= 0x10000 && own->ebx <= 0x10000)
      place(c.number, *own);
    else if (given.entries().empty())
      place(c.number, {c.size, c.offset, c.flags, 0});
  }
  table.at(0xd, 0) = {static_cast<std::uint32_t>(xcr0), kLegacyAndHeader, end,
                      static_cast<std::uint32_t>(xcr0 >> 32)};
  CpuidRegs& one = table.at(0xd, 1);
  one.eax = flags;
  // The size for XCR0 | IA32_XSS as they are after reset; KVM keeps it up to date.
  if (bit(flags, 1) || bit(flags, 3)) one.ebx = kLegacyAndHeader;
  if (!bit(flags, 3)) return;
  if (given.entries().empty()) {
    // CET's user and supervisor states, of one size on all silicon (SDM Vol. 1, 13.5.9). Others
    // are no model's.
    if (!has_feature(table, "shstk") && !has_feature(table, "ibt")) return;
    one.ecx = 1U << kCetUser | 1U << kCetSupervisor;
    table.at(0xd, kCetUser) = {16, 0, kSupervisor, 0};
    table.at(0xd, kCetSupervisor) = {24, 0, kSupervisor, 0};
    return;
  }
  // Under the rule `host` they are the host's.
  one.ecx = given.get(0xd, 1).ecx;
  one.edx = given.get(0xd, 1).edx;
  for (unsigned number = 2; number < 63; ++number) {
    const CpuidRegs* own = given.find(0xd, number);
    if (own != nullptr && bit(own->ecx, 0) && bit(std::uint64_t{one.edx} << 32 | one.ecx, number))
      table.at(0xd, number) = *own;
  }
}

}  // namespace vmm
