#include "vmm/cpu/vmx.h"

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

// Controls that are 1 unless a CPU allows otherwise (SDM Vol. 3D, A.2 to A.5, "default1"), and what
// the value holds beside features.
struct ControlMsr {
  std::uint32_t index;
  std::uint32_t default1;
};
constexpr std::array<ControlMsr, 5> kControls = {{
    {0x48b, 0},           // PROCBASED_CTLS2
    {0x48d, 0x16},        // TRUE_PINBASED_CTLS
    {0x48e, 0x0401e172},  // TRUE_PROCBASED_CTLS
    {0x48f, 0x00036dff},  // TRUE_EXIT_CTLS
    {0x490, 0x000011ff},  // TRUE_ENTRY_CTLS
}};
constexpr std::uint32_t kExitControls = 0x48f;
constexpr unsigned kHost64 = 9;  // "host address-space size": comes with long mode, so has no name

// IA32_VMX_BASIC (A.1): features; revision, size, address width and memory type of a VMCS.
constexpr std::uint64_t kBasicFeatures = 0x05c0000000000000;
constexpr std::uint64_t kBasicFixed = 0x003d1fffffffffff;
// IA32_VMX_MISC (A.6): STORE_LMA, activity states, VMWRITE to any field, length 0; the timer's
// rate, CR3 targets, MSR lists, revision of the MSEG.
constexpr std::uint64_t kMiscFeatures = 0x00000000600001e0;
constexpr std::uint64_t kMiscFixed = 0xffffffff0fff001f;

const ControlMsr* find_control(std::uint32_t index) {
  for (const ControlMsr& msr : kControls)
    if (msr.index == index) return &msr;
  return nullptr;
}

// Controls that are no features.
std::uint32_t unnamed(std::uint32_t index) { return index == kExitControls ? 1U << kHost64 : 0; }

}  // namespace

bool is_vmx_control_msr(std::uint32_t index) { return find_control(index) != nullptr; }

bool vmx_default1(std::uint32_t index, unsigned bit) {
  const ControlMsr* msr = find_control(index);
  return msr != nullptr && vmm::bit(msr->default1, bit);
}

std::uint64_t vmx_features(std::uint32_t index, std::uint64_t value) {
  if (index == kVmxBasic) return value & kBasicFeatures;
  if (index == kVmxMisc) return value & kMiscFeatures;
  const ControlMsr* msr = find_control(index);
  if (msr == nullptr) return value;
  const auto must = static_cast<std::uint32_t>(value);
  const auto may = static_cast<std::uint32_t>(value >> 32);
  return ((may & ~msr->default1) | (~must & msr->default1)) & ~unnamed(index);
}

std::uint64_t with_vmx_feature(std::uint32_t index, std::uint64_t value, unsigned bit, bool on) {
  const ControlMsr* msr = find_control(index);
  const std::uint64_t mask = std::uint64_t{1} << bit;
  if (msr == nullptr) return on ? value | mask : value & ~mask;
  // One that is set by default is always allowed to be 1: having it means that it may be 0.
  if ((msr->default1 & mask) != 0)
    return on ? (value | mask << 32) & ~mask : value | mask | mask << 32;
  return on ? value | mask << 32 : value & ~(mask << 32) & ~mask;
}

std::uint64_t with_vmx_control_fixed(std::uint32_t index, std::uint64_t value, unsigned bit) {
  const std::uint64_t mask = std::uint64_t{1} << bit;
  return find_control(index) != nullptr ? value | mask | mask << 32 : value;
}

std::uint64_t vmx_controls_fixed(std::uint32_t index, std::uint64_t value) {
  const ControlMsr* msr = find_control(index);
  return msr == nullptr ? 0 : static_cast<std::uint32_t>(value) & ~msr->default1;
}

bool is_vmx_choice(std::uint32_t index) {
  constexpr std::array<std::uint32_t, 12> kChoices = {
      kVmxBasic, kVmxMisc, 0x486, 0x488, 0x48a, 0x48b, 0x48c, 0x48d, 0x48e, 0x48f, 0x490, kVmxLast};
  return std::ranges::find(kChoices, index) != kChoices.end();
}

MsrValues vmx_to_set(const MsrValues& kvm) {
  MsrValues result;
  for (const auto& msr : kvm)
    if (is_vmx_choice(msr.first)) result.insert(msr);
  return result;
}

void complete_vmx(MsrValues& msrs, bool long_mode) {
  for (const ControlMsr& msr : kControls)
    msrs.try_emplace(msr.index, std::uint64_t{msr.default1} << 32 | msr.default1);
  std::uint64_t& exits = msrs[kExitControls];
  const std::uint64_t host64 = std::uint64_t{1} << (32 + kHost64);
  exits = long_mode ? exits | host64 : exits & ~host64;
  for (const std::uint32_t index : {kVmxBasic, kVmxMisc, 0x48cU, kVmxLast})
    msrs.try_emplace(index, 0);
  // CR0 needs PE, NE and PG, CR4 needs VMXE (A.7, A.8). FIXED1 follows from CPUID.
  msrs.try_emplace(0x486, 0x80000021);
  msrs.try_emplace(0x488, 0x2000);
  // IA32_VMX_VMCS_ENUM holds the highest index of a field, from bit 1 on (A.9): that of the
  // preemption timer, or of the TSC multiplier.
  const bool scaling = bit(msrs.at(0x48b), 32 + 25);
  msrs.try_emplace(0x48a, scaling ? 0x32 : 0x2e);
}

void take_fixed_by_kvm(MsrValues& msrs, const MsrValues& kvm) {
  for (const std::uint32_t index : {kVmxBasic, kVmxMisc}) {
    const auto theirs = kvm.find(index);
    const auto mine = msrs.find(index);
    if (theirs == kvm.end() || mine == msrs.end()) continue;
    mine->second = without_fixed_by_kvm(index, mine->second) |
                   (theirs->second & ~without_fixed_by_kvm(index, ~std::uint64_t{0}));
  }
}

std::uint64_t without_fixed_by_kvm(std::uint32_t index, std::uint64_t value) {
  if (index == kVmxBasic) return value & ~kBasicFixed;
  if (index == kVmxMisc) return value & ~kMiscFixed;
  return value;
}

}  // namespace vmm
