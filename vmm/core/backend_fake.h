// For tests: a vCPU that plays a script of exits.
#pragma once

#include <deque>
#include <vector>

#include "vmm/core/backend.h"

namespace vmm {

class FakeVcpu final : public VcpuBackend {
 public:
  // What run() returns, one after another; then Interrupted for ever.
  std::deque<Result<Exit>> script;
  CpuState cpu;
  unsigned runs = 0;
  unsigned settles = 0;
  unsigned kicks = 0;

  Result<Exit> run() override {
    ++runs;
    if (script.empty()) return Exit{Interrupted{}};
    Result<Exit> next = std::move(script.front());
    script.pop_front();
    return next;
  }
  Result<Exit> settle() override {
    ++settles;
    return Exit{Interrupted{}};
  }
  Result<CpuState> state() override { return cpu; }
  Result<void> set_state(const CpuState& state) override {
    cpu = state;
    return {};
  }
  Result<std::uint32_t> mp_state() override { return cpu.mp_state; }
  std::uint64_t last_rip() const override { return cpu.regs.rip; }
  void kick() override { ++kicks; }
};

}  // namespace vmm
