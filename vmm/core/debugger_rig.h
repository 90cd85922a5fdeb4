// For tests: a debugger over a fake target that stops where the test says.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "vmm/core/debug_target_fake.h"
#include "vmm/core/debugger.h"

namespace vmm {

constexpr DebugStop int3_at(Gva pc) { return {.exception = 3, .pc = pc, .dr6 = 0, .dr7 = 0}; }
constexpr DebugStop stepped(Gva pc) {
  return {.exception = 1, .pc = pc, .dr6 = 1u << 14, .dr7 = 0};
}
constexpr DebugStop slot_hit(unsigned slot, Gva pc) {
  return {.exception = 1, .pc = pc, .dr6 = 1u << slot, .dr7 = 0};
}

class DebuggerTest : public ::testing::Test {
 protected:
  Debugger& make(unsigned vcpus = 1) {
    target_.emplace(vcpus);
    return remake();
  }
  Debugger& remake() { return debugger_.emplace(*target_, PagingFeatures()); }
  void set_rip(unsigned vcpu, std::uint64_t rip) { target_->states[vcpu].regs.rip = rip; }
  std::optional<DebugReport> stop(unsigned vcpu, const DebugStop& why) {
    set_rip(vcpu, why.pc);
    return debugger_->stopped(vcpu, why).value();
  }
  std::vector<GoOn> all(GoOn::How how) const {
    return std::vector<GoOn>(target_->states.size(), GoOn{.how = how});
  }

  std::optional<FakeDebugTarget> target_;
  std::optional<Debugger> debugger_;
};

}  // namespace vmm
