// A machine's state without its memory: one block of named fields for each chip and processor.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/archive.h"
#include "vmm/core/vcpu_state.h"

namespace vmm {

struct MachineState {
  // "vcpu0", "serial0", ... in a fixed order.
  std::vector<std::pair<std::string, StateBlock>> blocks;

  bool operator==(const MachineState&) const = default;
  const StateBlock* find(std::string_view name) const;
  std::string print() const;
};

// One line "block.field: old -> new" for each difference, or one that names a block that only one
// of them has.
std::vector<std::string> diff(const MachineState& before, const MachineState& after);

// Where a vCPU's own clocks stood when the machine was paused.
struct VcpuTime {
  std::uint64_t tsc = 0;
  // Of KVM's LAPIC: its timer, and whether its interrupt was in the IRR.
  std::uint64_t tsc_deadline = 0;
  std::uint32_t current_count = 0;
  bool timer_requested = false;

  static VcpuTime of(const VcpuState& state);
  // From and to KVM's LAPIC page.
  void read_page(std::span<const std::uint8_t> page);
  void put_into(std::span<std::uint8_t> page) const;
};

// Whether KVM takes two rates for one: within 250 parts per million (kvm.tsc_tolerance_ppm).
inline bool same_tsc_rate(std::uint64_t khz, std::uint64_t other) {
  return std::max(khz, other) - std::min(khz, other) <= other / 4000;
}

struct HeldTime {
  std::vector<VcpuTime> vcpus;
  std::uint64_t clock = 0;  // kvmclock
  std::optional<kvm_pit_state2> pit;
};

}  // namespace vmm
