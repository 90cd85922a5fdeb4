// What KVM_GET_NESTED_STATE gives, taken apart (Linux Documentation/virt/kvm/api.rst 4.114).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/nested/vmcs.h"

namespace vmm::nested {

constexpr std::uint64_t kNoAddress = ~std::uint64_t{0};

struct NestedState {
  enum class Format : std::uint8_t { Vmx, Svm };
  Format format = Format::Vmx;
  bool guest_mode = false;   // the vCPU is in L2
  bool run_pending = false;  // it is on its way there
  bool mtf_pending = false;
  bool gif = true;  // SVM

  // VMX. kNoAddress: not in VMX operation; no current VMCS.
  std::uint64_t vmxon_address = kNoAddress;
  std::uint64_t vmcs_address = kNoAddress;
  // The current VMCS, in L2 with its live state. Absent when the blob does not hold it.
  std::optional<Vmcs> vmcs = {};
  std::optional<Vmcs> shadow_vmcs = {};

  // SVM, in L2 only: the controls are L2's, the save area is L1's as VMRUN left it.
  std::uint64_t vmcb_address = kNoAddress;
  std::vector<std::uint8_t> vmcb = {};  // 4096 bytes, or none
};

// Whether a vCPU that is halted in L2 with interrupts off may go on all the same, because its
// hypervisor hears of interrupts whatever L2's RFLAGS.IF says, or set a time limit:
// external-interrupt exiting, the VMX-preemption timer, the INTR intercept.
bool may_leave_halt(const NestedState& state);

// An Image error, with what does not fit, for bytes that are no such state.
Result<NestedState> parse_nested_state(std::span<const std::uint8_t> bytes);

}  // namespace vmm::nested
