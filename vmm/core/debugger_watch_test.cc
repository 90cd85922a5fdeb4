// Watchpoints where KVM delivers none: stepped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/debug_target_fake.h"
#include "vmm/core/debugger.h"

namespace vmm {
namespace {

using ::testing::HasSubstr;
using Kind = Breakpoint::Kind;
using How = GoOn::How;
using Why = DebugReport::Why;

constexpr DebugStop stepped(Gva pc) {
  return {.exception = 1, .pc = pc, .dr6 = 1u << 14, .dr7 = 0};
}

class SteppedWatch : public ::testing::Test {
 protected:
  Debugger& make(unsigned vcpus = 1) {
    target_.emplace(vcpus);
    target_->support.watchpoints = false;
    return debugger_.emplace(*target_, PagingFeatures());
  }
  std::optional<DebugReport> stop(unsigned vcpu, const DebugStop& why) {
    target_->states[vcpu].regs.rip = why.pc;
    return debugger_->stopped(vcpu, why).value();
  }
  void go(How how = How::Run) {
    ASSERT_TRUE(debugger_->go(std::vector<GoOn>(target_->states.size(), GoOn{.how = how})));
  }
  std::string refusal(const Breakpoint& breakpoint) {
    const auto inserted = debugger_->insert(breakpoint);
    return inserted ? "taken" : inserted.error().text();
  }
  const std::vector<bool>& who() const { return target_->runs.back().who; }

  std::optional<FakeDebugTarget> target_;
  std::optional<Debugger> debugger_;
};

TEST_F(SteppedWatch, the_guest_is_stepped_until_the_bytes_change) {
  Debugger& debugger = make();
  EXPECT_FALSE(debugger.steps_for_watch());
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  EXPECT_TRUE(debugger.steps_for_watch());
  go();
  EXPECT_TRUE(target_->controls[0].step);
  EXPECT_FALSE(target_->controls[0].block_interrupts) << "it runs, as far as its user can tell";
  EXPECT_EQ(target_->controls[0].slots[0], std::nullopt);
  EXPECT_FALSE(stop(0, stepped(0x2000)));
  target_->ram.bytes()[0x1004] = 1;
  EXPECT_FALSE(stop(0, stepped(0x2001)));
  EXPECT_TRUE(debugger.running());
  target_->ram.bytes()[0x1003] = 1;
  const auto report = stop(0, stepped(0x2002));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Watch);
  EXPECT_EQ(report->breakpoint, (Breakpoint{Kind::Write, 0x1000, 4}));
  EXPECT_FALSE(debugger.running());
  debugger.remove({Kind::Write, 0x1000, 4});
  go();
  EXPECT_FALSE(target_->controls[0].step);
}

TEST_F(SteppedWatch, what_the_user_writes_while_it_is_stopped_is_no_change) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  go();
  ASSERT_TRUE(debugger.interrupted());
  target_->ram.bytes()[0x1000] = 1;
  go();
  EXPECT_FALSE(stop(0, stepped(0x2000)));
}

TEST_F(SteppedWatch, a_change_that_ctrl_c_comes_upon_is_told) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  go();
  EXPECT_FALSE(debugger.interrupted().value());
  go();
  target_->ram.bytes()[0x1000] = 1;
  const auto report = debugger.interrupted().value();
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Watch);
}

TEST_F(SteppedWatch, a_step_of_the_users_that_writes_is_a_watch) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  go(How::OneStep);
  EXPECT_TRUE(target_->controls[0].block_interrupts);
  EXPECT_EQ(stop(0, stepped(0x2000))->why, Why::Stepped);
  go(How::OneStep);
  target_->ram.bytes()[0x1000] = 1;
  EXPECT_EQ(stop(0, stepped(0x2001))->why, Why::Watch);
}

TEST_F(SteppedWatch, breakpoints_stop_on_the_way) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  ASSERT_TRUE(debugger.insert({Kind::Hardware, 0x2002}));
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x2004}));
  go();
  EXPECT_FALSE(stop(0, stepped(0x2002)));
  EXPECT_TRUE(target_->controls[0].slots[0]);
  auto report = stop(0, {.exception = 1, .pc = 0x2002, .dr6 = 1, .dr7 = 0});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Breakpoint);
  // Passed by a step, which may write as well.
  go();
  EXPECT_FALSE(target_->controls[0].slots[0]);
  target_->ram.bytes()[0x1000] = 1;
  EXPECT_EQ(stop(0, stepped(0x2003))->why, Why::Watch);
  go();
  report = stop(0, {.exception = 3, .pc = 0x2004, .dr6 = 0, .dr7 = 0});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->breakpoint.address, 0x2004U);
}

TEST_F(SteppedWatch, what_steps_cannot_show_is_refused_with_the_reason) {
  make();
  EXPECT_THAT(refusal({Kind::Access, 0x1000, 4}), HasSubstr("single steps show writes alone"));
  EXPECT_THAT(refusal({Kind::Write, 0x1000, 65}), HasSubstr("at most 64 bytes"));
  EXPECT_THAT(refusal({Kind::Write, 0x1000, 0}), HasSubstr("at most 64 bytes"));
  EXPECT_THAT(refusal({Kind::Write, ~0ull, 2}), HasSubstr("at most 64 bytes"));
  EXPECT_EQ(refusal({Kind::Write, 0x1000, 60}), "taken");
  EXPECT_THAT(refusal({Kind::Write, 0x2000, 5}), HasSubstr("at most 64 bytes"));
  EXPECT_EQ(refusal({Kind::Write, 0x2000, 4}), "taken");
  // No register is taken by them.
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(refusal({Kind::Hardware, 0x1000 + i}), "taken");
  target_->support.steps_into_handlers = false;
  debugger_.emplace(*target_, PagingFeatures());
  EXPECT_THAT(refusal({Kind::Write, 0x1000, 4}), HasSubstr("pass over interrupt handlers"));
}

TEST_F(SteppedWatch, one_after_the_other_takes_a_step) {
  Debugger& debugger = make(3);
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  ASSERT_TRUE(debugger.go({{.how = How::Run}, {.how = How::Hold}, {.how = How::Run}}));
  EXPECT_EQ(who(), (std::vector<bool>{false, false, true}));
  EXPECT_FALSE(stop(2, stepped(0x2000)));
  EXPECT_EQ(who(), (std::vector<bool>{true, false, false}));
  target_->ram.bytes()[0x1000] = 1;
  EXPECT_EQ(stop(0, stepped(0x2000))->vcpu, 0U);
}

TEST_F(SteppedWatch, who_sleeps_runs_along_and_takes_no_turn) {
  Debugger& debugger = make(2);
  target_->states[1].mp_state = KVM_MP_STATE_HALTED;
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  go();
  EXPECT_EQ(who(), (std::vector<bool>{true, true}));
  EXPECT_EQ(debugger.turn(), std::nullopt) << "nobody waits";
  // It wakes up, and from now on takes turns.
  target_->states[1].mp_state = KVM_MP_STATE_RUNNABLE;
  EXPECT_FALSE(stop(1, stepped(0x2000)));
  EXPECT_EQ(who(), (std::vector<bool>{false, true}));
  // When all sleep, all may be woken.
  target_->states[0].mp_state = target_->states[1].mp_state = KVM_MP_STATE_HALTED;
  EXPECT_FALSE(stop(1, stepped(0x2000)));
  EXPECT_FALSE(stop(0, stepped(0x2000)));
  EXPECT_EQ(who(), (std::vector<bool>{true, true}));
}

TEST_F(SteppedWatch, what_one_does_that_was_woken_meanwhile_is_seen_as_well) {
  Debugger& debugger = make(2);
  CpuState& sleeper = target_->states[1];
  sleeper.mp_state = KVM_MP_STATE_HALTED;
  sleeper.regs.rip = 0x2000;
  sleeper.regs.rsp = 0x3000;
  sleeper.sregs.cs.selector = 8;
  sleeper.sregs.ss.db = 1;
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x2ff8, 4}));
  go();
  // It took an interrupt, whose frame is what is watched, when the other one stopped.
  sleeper.mp_state = KVM_MP_STATE_RUNNABLE;
  sleeper.regs.rsp = 0x2ff4;
  target_->ram.put32(0x2ff4, 0x2000);
  target_->ram.put32(0x2ff8, 8);
  target_->ram.put32(0x2ffc, spec::RFLAGS_TF);
  target_->states[0].mp_state = KVM_MP_STATE_RUNNABLE;
  const auto report = stop(0, stepped(0x2000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Watch);
  EXPECT_EQ(target_->ram.bytes()[0x2ffd], 0);
}

TEST_F(SteppedWatch, whose_turn_does_not_end_holds_nobody_up) {
  Debugger& debugger = make(2);
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  go();
  const auto turn = debugger.turn();
  ASSERT_TRUE(turn);
  EXPECT_EQ(who(), (std::vector<bool>{false, true}));
  EXPECT_FALSE(debugger.pass_turn().value());
  EXPECT_EQ(who(), (std::vector<bool>{true, true}));
  EXPECT_FALSE(stop(0, stepped(0x2000)));
  EXPECT_EQ(who(), (std::vector<bool>{true, true}));
  // It comes back after all, and what it wrote is seen.
  target_->ram.bytes()[0x1000] = 1;
  EXPECT_EQ(stop(1, stepped(0x2000))->vcpu, 1U);
  EXPECT_EQ(debugger.turn(), std::nullopt);
  EXPECT_FALSE(debugger.pass_turn().value()) << "it is stopped";
  EXPECT_FALSE(debugger.running());
}

TEST_F(SteppedWatch, no_step_leaves_its_trap_flag_in_a_frame) {
  Debugger& debugger = make();
  CpuState& state = target_->states[0];
  state.regs.rip = 0x2000;
  state.regs.rsp = 0x3000;
  state.regs.rflags = 0x202;
  state.sregs.cs.selector = 8;
  state.sregs.ss.db = 1;
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1000, 4}));
  go();
  target_->ram.put32(0x2ff4, 0x2000);
  target_->ram.put32(0x2ff8, 8);
  target_->ram.put32(0x2ffc, 0x302);
  state.regs.rsp = 0x2ff4;
  EXPECT_FALSE(stop(0, stepped(0x500)));
  EXPECT_EQ(load<std::uint32_t>(std::span<const std::uint8_t>(target_->ram.bytes()), 0x2ffc),
            0x202U);
}

}  // namespace
}  // namespace vmm
