// The VMX capability MSRs (SDM Vol. 3D, appendix A) as words of named features.
//
// The MSRs of controls hold two halves: what may be 0 and what may be 1. A name such as
// "vmx-xsaves" stands for one control, so a word of features has one bit for each: set when a guest
// hypervisor may use the control, which is being allowed to set it or, for those that the
// architecture has set by default, to clear it.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "vmm/cpu/features.h"

namespace vmm {

constexpr std::uint32_t kFeatureControl = 0x3a;  // IA32_FEATURE_CONTROL
constexpr std::uint32_t kVmxBasic = 0x480;
constexpr std::uint32_t kVmxMisc = 0x485;
constexpr std::uint32_t kVmxLast = 0x491;  // IA32_VMX_VMFUNC

// A control, or another capability of VMX: a bit of MSRs 480h to 491h.
constexpr bool is_vmx_word(const FeatureWord& word) {
  return word.is_msr && word.index >= kVmxBasic && word.index <= kVmxLast;
}

// Whether the MSR has the two halves of controls: PROCBASED_CTLS2 and the four TRUE ones.
bool is_vmx_control_msr(std::uint32_t index);

// Whether the control (bit 0 to 31) is 1 unless a CPU allows otherwise.
bool vmx_default1(std::uint32_t index, unsigned bit);

// The features in the value of a VMX capability MSR: those of the controls, else the value itself.
std::uint64_t vmx_features(std::uint32_t index, std::uint64_t value);
// `value` with feature `bit` (0 to 31 for controls, else 0 to 63) on or off.
std::uint64_t with_vmx_feature(std::uint32_t index, std::uint64_t value, unsigned bit, bool on);
// `value` with the control offered, and fixed to 1.
std::uint64_t with_vmx_control_fixed(std::uint32_t index, std::uint64_t value, unsigned bit);
// Controls that the value fixes to 1 although the architecture does not.
std::uint64_t vmx_controls_fixed(std::uint32_t index, std::uint64_t value);

using MsrValues = std::map<std::uint32_t, std::uint64_t>;

// Whether the MSR (480h to 491h) is set by a model: all but those that KVM makes from others (481h
// to 484h) and from CPUID (487h, 489h).
bool is_vmx_choice(std::uint32_t index);

// Those of `kvm`, the values that /dev/kvm reports, that can be set.
MsrValues vmx_to_set(const MsrValues& kvm);

// Fills in what is no feature: controls that the architecture fixes, the 64-bit host of
// IA32_VMX_EXIT (with `long_mode`), the highest VMCS field, and what CR0 and CR4 must hold. For a
// CPU with vmx.
void complete_vmx(MsrValues& msrs, bool long_mode);

// What KVM lets nobody choose: revision and size of a VMCS and its memory type in IA32_VMX_BASIC;
// the rate of the preemption timer, the number of CR3 targets and the size of MSR lists in
// IA32_VMX_MISC. Taken from `kvm`, the values that /dev/kvm reports.
void take_fixed_by_kvm(MsrValues& msrs, const MsrValues& kvm);
// An MSR's value without that.
std::uint64_t without_fixed_by_kvm(std::uint32_t index, std::uint64_t value);

}  // namespace vmm
