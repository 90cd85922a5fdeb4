#include "vmm/core/debugger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/debugger_rig.h"

namespace vmm {
namespace {

using ::testing::HasSubstr;
using Kind = Breakpoint::Kind;
using How = GoOn::How;
using Why = DebugReport::Why;
using Hardware = HardwareBreakpoint;

TEST_F(DebuggerTest, memory_has_the_int3_only_while_the_guest_runs) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0);
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0xcc);
  EXPECT_TRUE(target_->controls[0].int3);
  EXPECT_TRUE(debugger.running());
  const auto report = stop(0, int3_at(0x1000));
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0);
  EXPECT_FALSE(debugger.running());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Breakpoint);
  EXPECT_EQ(report->breakpoint, (Breakpoint{Kind::Software, 0x1000}));
}

TEST_F(DebuggerTest, whoever_peeks_at_the_running_guest_finds_its_own_memory) {
  Debugger& debugger = make(2);
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1001}));
  ASSERT_TRUE(debugger.go({{.how = How::Run}, {.how = How::Hold}}));
  target_->ram.bytes()[0x1001] = 0x55;
  debugger.peek([&] {
    EXPECT_EQ(target_->ram.bytes()[0x1000], 0);
    EXPECT_EQ(target_->ram.bytes()[0x1001], 0x55);
  });
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0xcc);
  EXPECT_EQ(target_->ram.bytes()[0x1001], 0x55);
  EXPECT_TRUE(debugger.running());
  EXPECT_EQ(debugger.who(), (std::vector<bool>{true, false}));
  // A vCPU that had come to it at that moment is told as ever.
  EXPECT_TRUE(stop(0, int3_at(0x1000)));
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0);
}

TEST_F(DebuggerTest, a_reset_leaves_breakpoints_and_nothing_of_what_they_had_set_up) {
  Debugger& debugger = make(2);
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go({{.how = How::OneStep}, {.how = How::Hold}}));
  EXPECT_TRUE(debugger.steps_for_user());
  // The image has other bytes there now, as its own.
  target_->ram.bytes()[0x1000] = 0xcc;
  debugger.machine_was_reset();
  EXPECT_FALSE(debugger.running());
  EXPECT_FALSE(debugger.steps_for_user());
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0xcc) << "nothing is put back into new memory";
  target_->ram.bytes()[0x1000] = 0x90;
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_FALSE(debugger.steps_for_user());
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0xcc);
  EXPECT_EQ(debugger.who(), (std::vector<bool>{true, true}));
  ASSERT_TRUE(debugger.interrupted());
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0x90);
}

TEST_F(DebuggerTest, what_the_guest_wrote_over_an_int3_stays) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  target_->ram.bytes()[0x1000] = 0x55;
  ASSERT_TRUE(debugger.interrupted());
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0x55);
  // And is planted over anew.
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0xcc);
  ASSERT_TRUE(debugger.interrupted());
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0x55);
}

TEST_F(DebuggerTest, a_breakpoint_that_was_told_is_passed_alone) {
  Debugger& debugger = make(2);
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  ASSERT_TRUE(stop(1, int3_at(0x1000)));
  target_->runs.clear();
  ASSERT_TRUE(debugger.go(all(How::Run)));
  ASSERT_EQ(target_->runs.size(), 1U);
  EXPECT_EQ(target_->runs[0].who, (std::vector<bool>{false, true}));
  EXPECT_EQ(target_->runs[0].memory[0x1000], 0) << "the guest's own instruction is executed";
  EXPECT_TRUE(target_->controls[1].step);
  EXPECT_TRUE(target_->controls[1].block_interrupts);
  EXPECT_FALSE(stop(1, stepped(0x1001)));
  ASSERT_EQ(target_->runs.size(), 2U);
  EXPECT_EQ(target_->runs[1].who, (std::vector<bool>{true, true}));
  EXPECT_EQ(target_->runs[1].memory[0x1000], 0xcc);
  EXPECT_FALSE(target_->controls[1].step);
}

TEST_F(DebuggerTest, a_breakpoint_that_was_not_told_yet_is_hit_again) {
  Debugger& debugger = make(2);
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  set_rip(1, 0x1000);  // it stopped at the same moment
  ASSERT_TRUE(stop(0, int3_at(0x1000)));
  target_->runs.clear();
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->runs[0].who, (std::vector<bool>{true, false}));
  EXPECT_FALSE(stop(0, stepped(0x1001)));
  EXPECT_EQ(target_->runs[1].who, (std::vector<bool>{true, true}));
  EXPECT_TRUE(stop(1, int3_at(0x1000)));
}

TEST_F(DebuggerTest, a_step_from_a_breakpoint_is_one_step) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  ASSERT_TRUE(stop(0, int3_at(0x1000)));
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  const auto report = stop(0, stepped(0x1001));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Stepped);
}

TEST_F(DebuggerTest, steps_block_interrupts_unless_told_otherwise) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  EXPECT_TRUE(target_->controls[0].block_interrupts);
  ASSERT_TRUE(stop(0, stepped(1)));
  debugger.step_into_interrupts(true);
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  EXPECT_FALSE(target_->controls[0].block_interrupts);
}

TEST_F(DebuggerTest, a_step_of_one_that_no_interrupt_can_wake_is_refused) {
  Debugger& debugger = make(2);
  for (const std::uint32_t waits :
       {std::uint32_t{KVM_MP_STATE_UNINITIALIZED}, std::uint32_t{KVM_MP_STATE_INIT_RECEIVED}}) {
    target_->states[1].mp_state = waits;
    const auto gone = debugger.go({{.how = How::Run}, {.how = How::OneStep}});
    ASSERT_FALSE(gone);
    EXPECT_THAT(gone.error().text(), HasSubstr("vCPU 1 waits for a SIPI"));
    EXPECT_FALSE(debugger.running());
  }
  target_->states[1].mp_state = KVM_MP_STATE_HALTED;
  const auto gone =
      debugger.go({{.how = How::Run}, {.how = How::Range, .first = 0x1000, .end = 0x1010}});
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().text(), HasSubstr("vCPU 1 is halted with interrupts off"));
  EXPECT_TRUE(target_->runs.empty());
  EXPECT_TRUE(debugger.go(all(How::Run))) << "but it may go on";
}

TEST_F(DebuggerTest, a_step_of_one_that_is_halted_takes_the_interrupt_that_wakes_it) {
  Debugger& debugger = make();
  target_->states[0].mp_state = KVM_MP_STATE_HALTED;
  target_->states[0].regs.rflags = spec::RFLAGS_IF;
  target_->states[0].regs.rsp = 0x3000;
  target_->states[0].sregs.cs.selector = 8;
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  EXPECT_TRUE(target_->controls[0].step);
  EXPECT_FALSE(target_->controls[0].block_interrupts);
  // Whose frame is left without the trap flag of the step.
  target_->ram.put32(0x2ff8, 8);
  target_->ram.put32(0x2ffc, spec::RFLAGS_IF | spec::RFLAGS_TF);
  target_->states[0].regs.rsp = 0x2ff4;
  target_->states[0].mp_state = KVM_MP_STATE_RUNNABLE;
  ASSERT_TRUE(stop(0, stepped(0x2000)));
  EXPECT_EQ(target_->ram.bytes()[0x2ffd], spec::RFLAGS_IF >> 8);
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  EXPECT_TRUE(target_->controls[0].block_interrupts);
}

TEST_F(DebuggerTest, a_step_over_pushf_stores_no_trap_flag) {
  Debugger& debugger = make();
  set_rip(0, 0x1000);
  target_->states[0].regs.rflags = 2;
  target_->states[0].regs.rsp = 0x3000;
  target_->ram.put(0x1000, {0x9c});
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  EXPECT_TRUE(target_->controls[0].block_interrupts);
  target_->ram.put32(0x2ffc, 2 | spec::RFLAGS_TF);
  target_->states[0].regs.rsp = 0x2ffc;
  ASSERT_TRUE(stop(0, stepped(0x1001)));
  EXPECT_EQ(target_->ram.read_value<std::uint32_t>(0x2ffc), 2U);
}

TEST_F(DebuggerTest, a_range_is_stepped_until_it_is_left) {
  Debugger& debugger = make();
  set_rip(0, 0x1000);
  ASSERT_TRUE(debugger.go({{.how = How::Range, .first = 0x1000, .end = 0x1010}}));
  EXPECT_FALSE(stop(0, stepped(0x1002)));
  EXPECT_FALSE(stop(0, stepped(0x100f)));
  const auto report = stop(0, stepped(0x1010));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Stepped);
}

TEST_F(DebuggerTest, a_breakpoint_inside_a_stepped_range_stops) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1004}));
  ASSERT_TRUE(debugger.go({{.how = How::Range, .first = 0x1000, .end = 0x1010}}));
  const auto report = stop(0, stepped(0x1004));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Breakpoint);
}

TEST_F(DebuggerTest, the_guests_own_int3_is_given_to_the_guest) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_FALSE(stop(0, int3_at(0x2000)));
  EXPECT_TRUE(target_->controls[0].inject_int3);
  EXPECT_FALSE(stop(0, int3_at(0x2000)));
  EXPECT_TRUE(debugger.running());
  // Once for each.
  ASSERT_TRUE(stop(0, int3_at(0x1000)));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_FALSE(target_->controls[0].inject_int3);
}

TEST_F(DebuggerTest, a_debug_exception_of_the_guest_is_given_to_the_guest) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Hardware, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_FALSE(stop(0, stepped(0x2000)));
  EXPECT_TRUE(target_->controls[0].inject_debug);
}

TEST_F(DebuggerTest, without_int3_every_breakpoint_takes_a_register) {
  make();
  target_->support.int3 = false;
  Debugger& debugger = remake();
  for (unsigned i = 0; i < 4; ++i) ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000 + i}));
  const auto refused = debugger.insert({Kind::Software, 0x2000});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("no debug register is left"));
  EXPECT_EQ(debugger.breakpoints().size(), 4U);
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0);
  EXPECT_EQ(target_->controls[0].slots[2], (Hardware{0x1002, Hardware::Kind::Execute, 1}));
  const auto report = stop(0, slot_hit(2, 0x1002));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->breakpoint.address, 0x1002U);
}

TEST_F(DebuggerTest, what_is_not_in_ram_yet_takes_a_register_until_it_is) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x8000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->controls[0].slots[0], (Hardware{0x8000, Hardware::Kind::Execute, 1}));
  ASSERT_TRUE(debugger.interrupted());
  target_->ram.bytes().resize(0x9000);
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->controls[0].slots[0], std::nullopt);
  EXPECT_EQ(target_->ram.bytes()[0x8000], 0xcc);
}

TEST_F(DebuggerTest, a_watched_range_is_cut_into_aligned_pieces) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Write, 0x1006, 8}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  const auto& slots = target_->controls[0].slots;
  EXPECT_EQ(slots[0], (Hardware{0x1006, Hardware::Kind::Write, 2}));
  EXPECT_EQ(slots[1], (Hardware{0x1008, Hardware::Kind::Write, 4}));
  EXPECT_EQ(slots[2], (Hardware{0x100c, Hardware::Kind::Write, 2}));
  const auto report = stop(0, slot_hit(1, 0x3000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Watch);
  EXPECT_EQ(report->breakpoint.address, 0x1006U);
}

TEST_F(DebuggerTest, a_watchpoint_that_cannot_be_had_is_refused_with_the_reason) {
  Debugger& debugger = make();
  EXPECT_FALSE(debugger.insert({Kind::Write, 0x1000, 33}));
  EXPECT_FALSE(debugger.insert({Kind::Write, 0x1000, 0}));
  EXPECT_FALSE(debugger.insert({Kind::Write, ~0ull, 2}));
  EXPECT_FALSE(debugger.insert({Kind::Write, 0x1001, 32}));
}

TEST_F(DebuggerTest, inserting_twice_is_inserting_once) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  EXPECT_EQ(debugger.breakpoints().size(), 1U);
  debugger.remove({Kind::Software, 0x1000});
  debugger.remove({Kind::Software, 0x1000});
  EXPECT_TRUE(debugger.breakpoints().empty());
}

TEST_F(DebuggerTest, a_breakpoint_whose_condition_is_false_is_passed_and_nobody_is_told) {
  Debugger& debugger = make(2);
  std::vector<unsigned> asked;
  bool answer = false;
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}, [&](unsigned vcpu) {
    asked.push_back(vcpu);
    return answer;
  }));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  for (int i = 0; i < 3; ++i) {
    target_->runs.clear();
    EXPECT_FALSE(stop(1, int3_at(0x1000)));
    EXPECT_TRUE(debugger.running());
    EXPECT_EQ(target_->runs.at(0).who, (std::vector<bool>{false, true})) << "it passes alone";
    EXPECT_EQ(target_->runs.at(0).memory[0x1000], 0);
    EXPECT_FALSE(stop(1, stepped(0x1001)));
    EXPECT_EQ(target_->runs.at(1).who, (std::vector<bool>{true, true}));
    EXPECT_EQ(target_->runs.at(1).memory[0x1000], 0xcc);
  }
  EXPECT_EQ(asked, (std::vector<unsigned>{1, 1, 1}));
  answer = true;
  const auto report = stop(1, int3_at(0x1000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Breakpoint);
  EXPECT_FALSE(debugger.running());
}

TEST_F(DebuggerTest, a_condition_is_asked_at_a_debug_register_as_well) {
  Debugger& debugger = make();
  bool answer = false;
  ASSERT_TRUE(debugger.insert({Kind::Hardware, 0x1000}, [&](unsigned) { return answer; }));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_FALSE(stop(0, slot_hit(0, 0x1000)));
  EXPECT_EQ(target_->controls[0].slots[0], std::nullopt);
  EXPECT_TRUE(target_->controls[0].step);
  EXPECT_FALSE(target_->controls[0].inject_debug) << "it was ours";
  EXPECT_FALSE(stop(0, stepped(0x1001)));
  EXPECT_NE(target_->controls[0].slots[0], std::nullopt);
  answer = true;
  EXPECT_TRUE(stop(0, slot_hit(0, 0x1000)));
}

TEST_F(DebuggerTest, of_two_breakpoints_at_a_place_one_true_condition_is_enough) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}, [](unsigned) { return false; }));
  ASSERT_TRUE(debugger.insert({Kind::Hardware, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  const auto report = stop(0, int3_at(0x1000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->breakpoint.kind, Kind::Hardware);
}

TEST_F(DebuggerTest, inserting_again_changes_the_condition) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}, [](unsigned) { return false; }));
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  EXPECT_EQ(debugger.breakpoints().size(), 1U);
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_TRUE(stop(0, int3_at(0x1000)));
  // And it does not outlive its breakpoint.
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}, [](unsigned) { return false; }));
  debugger.remove({Kind::Software, 0x1000});
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  set_rip(0, 0x2000);
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_TRUE(stop(0, int3_at(0x1000)));
}

TEST_F(DebuggerTest, a_step_onto_a_false_condition_is_a_step_and_a_range_goes_through_it) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1004}, [](unsigned) { return false; }));
  set_rip(0, 0x1000);
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  const auto report = stop(0, stepped(0x1004));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Stepped);
  set_rip(0, 0x1000);
  ASSERT_TRUE(debugger.go({{.how = How::Range, .first = 0x1000, .end = 0x1010}}));
  target_->runs.clear();
  EXPECT_FALSE(stop(0, stepped(0x1004)));
  EXPECT_EQ(target_->runs.at(0).memory[0x1004], 0) << "the guest's own instruction is executed";
  EXPECT_FALSE(stop(0, stepped(0x1006)));
  EXPECT_EQ(target_->runs.at(1).memory[0x1004], 0xcc);
  EXPECT_EQ(stop(0, stepped(0x1010))->why, Why::Stepped);
}

TEST_F(DebuggerTest, a_told_breakpoint_is_not_told_again_to_one_that_was_held_meanwhile) {
  Debugger& debugger = make(2);
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  ASSERT_TRUE(stop(0, int3_at(0x1000)));
  ASSERT_TRUE(debugger.go({{.how = How::Hold}, {.how = How::OneStep}}));
  EXPECT_EQ(target_->runs.back().who, (std::vector<bool>{false, true}));
  ASSERT_TRUE(stop(1, stepped(0x2000)));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->runs.back().who, (std::vector<bool>{true, false})) << "it passes";
}

TEST_F(DebuggerTest, a_stop_that_comes_after_an_interruption_is_none) {
  Debugger& debugger = make();
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}, [](unsigned) { return false; }));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  ASSERT_TRUE(debugger.interrupted());
  target_->runs.clear();
  EXPECT_FALSE(stop(0, int3_at(0x1000)));
  EXPECT_FALSE(debugger.running());
  EXPECT_TRUE(target_->runs.empty());
}

TEST_F(DebuggerTest, there_is_an_end_to_breakpoints) {
  Debugger& debugger = make();
  for (Gva at = 0; at < 1024; ++at) ASSERT_TRUE(debugger.insert({Kind::Software, at}));
  const auto refused = debugger.insert({Kind::Software, 0x2000});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("1024 breakpoints"));
  EXPECT_TRUE(debugger.insert({Kind::Software, 0})) << "it is there already";
}

TEST_F(DebuggerTest, held_processors_stay_held) {
  Debugger& debugger = make(3);
  ASSERT_TRUE(debugger.go({{How::Hold}, {How::OneStep}, {How::Hold}}));
  EXPECT_EQ(target_->runs.back().who, (std::vector<bool>{false, true, false}));
}

TEST(Dr7, has_the_kind_and_length_of_each_slot) {
  std::array<std::optional<HardwareBreakpoint>, 4> slots;
  EXPECT_EQ(dr7_of(slots), 0x400U);
  slots[0] = {0x1000, Hardware::Kind::Execute, 1};
  EXPECT_EQ(dr7_of(slots), 0x602U);
  slots[3] = {0x1000, Hardware::Kind::Write, 8};
  EXPECT_EQ(dr7_of(slots), 0x90000682U);
  slots[1] = {0x1000, Hardware::Kind::Access, 4};
  EXPECT_EQ(dr7_of(slots), 0x90f0068aU);
}

}  // namespace
}  // namespace vmm
