// For tests: a paused machine without paging that notes what a debugger asks of it.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "vmm/core/debug_target.h"
#include "vmm/core/memory_fake.h"

namespace vmm {

class FakeDebugTarget final : public DebugTarget {
 public:
  struct RunCall {
    std::vector<bool> who;
    std::vector<std::uint8_t> memory;  // of RAM as the guest finds it
    bool operator==(const RunCall&) const = default;
  };

  explicit FakeDebugTarget(unsigned vcpus)
      : controls(vcpus), states(vcpus), positions(vcpus), ram(0x4000) {
    for (CpuState& state : states) {
      state.sregs.cr0 = spec::CR0_PE;
      state.sregs.cs.db = 1;
    }
  }

  unsigned vcpu_count() const override { return static_cast<unsigned>(states.size()); }
  Result<void> pause() override { return {}; }
  Result<void> resume() override { return {}; }
  Result<CpuState> cpu_state(unsigned vcpu) override { return states[vcpu]; }
  Result<void> set_cpu_state(unsigned vcpu, const CpuState& state) override {
    states[vcpu] = state;
    return {};
  }
  const MemoryReader& memory() const override { return ram; }
  bool write_memory(Gpa gpa, std::span<const std::uint8_t> data) override {
    const std::size_t size = ram.bytes().size();
    if (gpa > size || data.size() > size - gpa) return false;
    ram.put(gpa, {data.begin(), data.end()});
    return true;
  }
  const SymbolTable& symbols() const override { return names; }
  const CpuidTable& cpuid() const override { return table; }
  Result<std::uint64_t> msr(unsigned vcpu, std::uint32_t index) override {
    const auto found = msrs.find({vcpu, index});
    if (found == msrs.end()) return fail(Error::usage("no such MSR"));
    return found->second;
  }
  Result<void> set_msr(unsigned vcpu, std::uint32_t index, std::uint64_t value) override {
    const auto found = msrs.find({vcpu, index});
    if (found == msrs.end()) return fail(Error::usage("no such MSR"));
    found->second = value;
    return {};
  }
  DebugSupport debug_support() const override { return support; }
  NestedPosition nested_position(unsigned vcpu) override { return positions[vcpu]; }
  Result<void> set_debug_control(unsigned vcpu, const DebugControl& control) override {
    controls[vcpu] = control;
    return {};
  }
  Result<void> run_some(const std::vector<bool>& who) override {
    runs.push_back({who, ram.bytes()});
    return {};
  }

  DebugSupport support{.step = true,
                       .block_interrupts = true,
                       .int3 = true,
                       .hardware = true,
                       .watchpoints = true,
                       .inject_int3 = true,
                       .resume = true,
                       .steps_into_handlers = true};
  std::vector<DebugControl> controls;
  std::vector<CpuState> states;
  std::vector<NestedPosition> positions;
  FakeRam ram;
  std::vector<RunCall> runs;
  SymbolTable names;
  CpuidTable table;
  std::map<std::pair<unsigned, std::uint32_t>, std::uint64_t> msrs;  // by vCPU and index
};

}  // namespace vmm
