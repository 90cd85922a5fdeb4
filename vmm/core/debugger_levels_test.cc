// Breakpoints and steps that cross between a guest hypervisor and its guest, and --catch's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/debugger_rig.h"
#include "vmm/core/nested_memory_fake.h"

namespace vmm {
namespace {

using Kind = Breakpoint::Kind;
using How = GoOn::How;
using Why = DebugReport::Why;
using Hardware = HardwareBreakpoint;

TEST_F(DebuggerTest, a_breakpoint_at_a_vm_entry_is_a_register_and_passed_without_a_step) {
  Debugger& debugger = make(2);
  target_->ram.put(0x1000, {0x0f, 0x01, 0xc2});
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x1000}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->ram.bytes()[0x1000], 0x0f) << "an int3 there could not be passed";
  EXPECT_EQ(target_->controls[0].slots[0]->address, 0x1000u);
  ASSERT_TRUE(stop(0, slot_hit(0, 0x1000)));
  target_->positions[0] = {.enters = true, .landings = {0x1003, 0x2000}};
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_TRUE(target_->controls[0].resume);
  EXPECT_FALSE(target_->controls[0].step);
  EXPECT_EQ(target_->controls[0].slots[0]->address, 0x1000u) << "for the next time";
  EXPECT_EQ(target_->runs.back().who, (std::vector<bool>{true, true})) << "nobody waits";
  EXPECT_FALSE(target_->controls[1].resume);
}

TEST_F(DebuggerTest, a_step_into_l2_ends_where_it_lands) {
  Debugger& debugger = make(2);
  target_->positions[0] = {.enters = true, .landings = {0x1003, 0x2000, 0x3000}};
  set_rip(0, 0x1000);
  ASSERT_TRUE(debugger.go({{.how = How::OneStep}, {.how = How::Hold}}));
  EXPECT_FALSE(target_->controls[0].step) << "its trap flag would stay in L1";
  EXPECT_TRUE(target_->controls[0].resume);
  EXPECT_EQ(target_->controls[0].slots[1], (Hardware{0x2000, Hardware::Kind::Execute, 1}));
  target_->positions[0] = {.level = 2, .landings = {0x3000}};
  const auto report = stop(0, slot_hit(1, 0x2000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Stepped);
}

TEST_F(DebuggerTest, a_step_in_l2_may_end_in_l1) {
  Debugger& debugger = make();
  target_->positions[0] = {.level = 2, .landings = {0x3000}};
  set_rip(0, 0x2000);
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  EXPECT_TRUE(target_->controls[0].step);
  EXPECT_FALSE(target_->controls[0].resume);
  EXPECT_EQ(target_->controls[0].slots[0]->address, 0x3000u);
  target_->positions[0] = {};
  const auto report = stop(0, slot_hit(0, 0x3000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->why, Why::Stepped);
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_FALSE(target_->controls[0].slots[0]) << "it was for that step";
}

TEST_F(DebuggerTest, a_landing_takes_a_free_register_before_one_in_use) {
  Debugger& debugger = make();
  for (const Gva address : {Gva{0x100}, Gva{0x200}, Gva{0x300}})
    ASSERT_TRUE(debugger.insert({Kind::Write, address, 8}));
  target_->positions[0] = {.enters = true, .landings = {0x1003, 0x2000}};
  ASSERT_TRUE(debugger.go(all(How::OneStep)));
  const auto& slots = target_->controls[0].slots;
  EXPECT_EQ(slots[0]->address, 0x100u);
  EXPECT_EQ(slots[1]->address, 0x200u);
  EXPECT_EQ(slots[3]->address, 0x1003u);
  EXPECT_EQ(slots[2]->address, 0x2000u) << "in place of the last that is watched";
}

TEST_F(DebuggerTest, breakpoints_of_catch_are_no_users_to_remove) {
  Debugger& debugger = make();
  unsigned asked = 0;
  const Breakpoint caught{.kind = Kind::Hardware, .address = 0x1000, .catching = true};
  ASSERT_TRUE(debugger.insert(caught, [&](unsigned) { return ++asked > 1; }));
  ASSERT_TRUE(debugger.insert({Kind::Hardware, 0x1000}, [](unsigned) { return false; }));
  debugger.remove({Kind::Hardware, 0x1000});
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x2000}));
  debugger.remove_all();
  EXPECT_EQ(debugger.breakpoints(), std::vector<Breakpoint>{caught});
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_FALSE(stop(0, slot_hit(0, 0x1000)));
  EXPECT_EQ(asked, 1u);
  ASSERT_TRUE(stop(0, stepped(0x1001)) == std::nullopt);
  const auto report = stop(0, slot_hit(0, 0x1000));
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->breakpoint.catching);
}

TEST_F(DebuggerTest, a_condition_may_insert_another_breakpoint) {
  Debugger& debugger = make();
  for (Gva address = 0x2000; address < 0x2010; ++address)
    ASSERT_TRUE(debugger.insert({Kind::Software, address}));
  ASSERT_TRUE(debugger.insert({Kind::Hardware, 0x1000}, [&](unsigned) {
    return debugger.insert({Kind::Software, 0x3000}).has_value();
  }));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_TRUE(stop(0, slot_hit(0, 0x1000)));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_TRUE(stop(0, stepped(0x1001)) == std::nullopt);
  EXPECT_EQ(target_->ram.bytes()[0x3000], 0xcc);
}

TEST_F(DebuggerTest, a_breakpoint_in_l2_is_planted_where_nested_tables_lead) {
  Debugger& debugger = make();
  target_->positions[0] = {
      .level = 2, .memory = std::make_shared<FakeNestedMemory>(target_->ram, 0x2000, 0x1000)};
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x800}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_EQ(target_->ram.bytes()[0x2800], 0xcc);
  EXPECT_EQ(target_->ram.bytes()[0x800], 0);
}

TEST_F(DebuggerTest, a_breakpoint_is_planted_in_the_other_level_as_well) {
  Debugger& debugger = make();
  const auto nested = std::make_shared<FakeNestedMemory>(target_->ram, 0x2000, 0x1000);
  PagingContext no_paging;
  no_paging.cr0 = spec::CR0_PE;
  ASSERT_TRUE(debugger.insert({Kind::Software, 0x800}));
  // From L1, whose VMCS has run L2, and from there.
  for (const NestedPosition& position :
       {NestedPosition{.may_nest = true, .other = NestedPosition::Other{no_paging, nested}},
        NestedPosition{.level = 2,
        .may_nest = true,
        .memory = nested,
        .other = NestedPosition::Other{no_paging, nullptr}}}) {
    target_->positions[0] = position;
    ASSERT_TRUE(debugger.go(all(How::Run)));
    EXPECT_EQ(target_->ram.bytes()[0x800], 0xcc);
    EXPECT_EQ(target_->ram.bytes()[0x2800], 0xcc);
    EXPECT_FALSE(target_->controls[0].slots[0]) << "it is in both";
    const auto report = stop(0, int3_at(0x800));
    ASSERT_TRUE(report);
    EXPECT_EQ(report->why, Why::Breakpoint);
    EXPECT_EQ(target_->ram.bytes()[0x800], 0);
    EXPECT_EQ(target_->ram.bytes()[0x2800], 0);
    set_rip(0, 0x900);
  }
}

// Memory says nothing of the level that it will have.
TEST_F(DebuggerTest, of_a_level_that_is_not_known_a_register_that_is_left_takes_care) {
  Debugger& debugger = make();
  target_->positions[0] = {.may_nest = true};
  for (Gva address = 0x800; address < 0x808; ++address)
    ASSERT_TRUE(debugger.insert({Kind::Software, address}));
  ASSERT_TRUE(debugger.insert({Kind::Hardware, 0x900}));
  ASSERT_TRUE(debugger.go(all(How::Run)));
  const auto& slots = target_->controls[0].slots;
  EXPECT_EQ(slots[0]->address, 0x900u);
  EXPECT_EQ(slots[1]->address, 0x800u);
  EXPECT_EQ(slots[3]->address, 0x802u);
  EXPECT_EQ(target_->ram.bytes()[0x800], 0xcc);
  EXPECT_EQ(target_->ram.bytes()[0x807], 0xcc) << "no register is left";
  const auto report = stop(0, slot_hit(1, 0x800));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->breakpoint, (Breakpoint{Kind::Software, 0x800}));
  // It is passed as others are.
  ASSERT_TRUE(debugger.go(all(How::Run)));
  EXPECT_TRUE(target_->controls[0].step);
  EXPECT_FALSE(target_->controls[0].slots[1]);
  EXPECT_EQ(target_->ram.bytes()[0x800], 0);
}

}  // namespace
}  // namespace vmm
