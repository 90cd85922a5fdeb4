// Everything that KVM keeps for one vCPU, and for the VM beside its vCPUs, as values that are
// visited by name: what a saved machine holds besides memory and our own chips.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "vmm/base/archive.h"
#include "vmm/core/cpu_state.h"

namespace vmm {

struct VcpuState {
  // An XSAVE area is some kilobytes, the nested state two pages and a header.
  static constexpr std::size_t kMaxXsave = 64 * 1024;
  static constexpr std::size_t kMaxNested = 64 * 1024;
  static constexpr std::size_t kLapicPage = 1024;

  CpuState cpu;
  // With PAE paging the processor holds these, whatever the table in memory says by now (SDM vol.
  // 3A 4.4.1); only where the host gives them (KVM_GET_SREGS2, Linux 5.14).
  std::uint64_t sregs_flags = 0;
  std::array<std::uint64_t, 4> pdptrs{};
  std::vector<std::uint8_t> xsave;  // empty where the host has no XSAVE to give
  std::uint64_t xcr0 = 0;
  // Those of KVM_GET_MSR_INDEX_LIST that this vCPU has, in that order; without the TSC, the TSC
  // deadline (both below) and what is in the other registers.
  std::vector<std::pair<std::uint32_t, std::uint64_t>> msrs;
  std::vector<std::uint8_t> lapic;   // the register page of KVM's LAPIC, empty where it is ours
  std::vector<std::uint8_t> nested;  // KVM_GET_NESTED_STATE, empty where KVM offers none
  // Of the moment when the machine was stopped.
  std::uint64_t tsc = 0;
  std::uint64_t tsc_deadline = 0;  // KVM's LAPIC

  // The list of MSRs is part of the format: a state of another list does not load.
  void visit(Archive& archive);
};

// KVM's own board: only with all of KVM's interrupt controllers, but for the clock.
struct KernelChips {
  kvm_irqchip pic_master{};
  kvm_irqchip pic_slave{};
  kvm_irqchip ioapic{};
  kvm_pit_state2 pit{};
};

struct VmState {
  std::optional<KernelChips> chips;
  std::uint64_t clock = 0;  // kvmclock, nanoseconds

  void visit(Archive& archive);
};

}  // namespace vmm
