#include "devices/irqchip_user.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using Activity = UserIrqChip::Activity;

constexpr std::uint64_t kSvr = 0xf0, kLdr = 0xd0, kIcrLow = 0x300, kIcrHigh = 0x310, kEoi = 0xb0;

// Four processors, with ids that have a gap.
class UserChip : public testing::Test {
 protected:
  UserChip() : chip_(kIds, wires()) {
    for (unsigned i = 0; i < 4; ++i) write(i, kSvr, 0x1ff);
  }
  UserIrqChip::Wires wires() {
    return {.wake = [this](unsigned vcpu) { ++woken.at(vcpu); },
            .extint_pending = [this] { return extint; },
            .extint_acknowledge =
                [this] {
                  extint = false;
                  return std::uint8_t{0x28};
                },
            .broadcast_eoi = [this](std::uint8_t vector) { eois.push_back(vector); },
            .note = [this](const TraceEvent& event) { notes.push_back(event); }};
  }
  void write(unsigned vcpu, std::uint64_t offset, std::uint32_t value) {
    std::array<std::uint8_t, 4> data;
    store_uint(data, value);
    EXPECT_EQ(chip_.lapic(vcpu).write(offset, data), Access::Ok);
  }
  void icr(unsigned from, std::uint32_t high, std::uint32_t low) {
    write(from, kIcrHigh, high);
    write(from, kIcrLow, low);
  }
  EntryPlan enter(unsigned vcpu, bool interrupts_on = true, bool ready = true) {
    const EntryState state{.ready = ready,
                           .interrupts_on = interrupts_on,
                           .cr8 = static_cast<std::uint8_t>(chip_.lapic(vcpu).tpr() >> 4),
                           .apic_base = chip_.lapic(vcpu).base()};
    return chip_.before_entry(vcpu, state, VmTime{0});
  }
  // What was noted since the last time, each with the vCPU in front.
  std::vector<std::string> noted() {
    std::vector<std::string> texts;
    for (const TraceEvent& event : std::exchange(notes, {}))
      texts.push_back(std::to_string(event.vcpu) + ": " + event.text());
    return texts;
  }
  void start_all() {
    for (unsigned i = 1; i < 4; ++i) chip_.set_activity(i, Activity::Running);
  }

  static constexpr std::array<std::uint32_t, 4> kIds = {0, 1, 2, 4};
  std::array<unsigned, 4> woken{};
  bool extint = false;
  std::vector<std::uint8_t> eois;
  std::vector<TraceEvent> notes;
  UserIrqChip chip_;
};

TEST_F(UserChip, only_the_bootstrap_processor_runs_at_first) {
  EXPECT_FALSE(enter(0).wait);
  for (unsigned i = 1; i < 4; ++i) EXPECT_TRUE(enter(i).wait) << i;
}

TEST_F(UserChip, init_and_sipi_start_a_processor_at_its_page) {
  icr(0, 2u << 24, 0x4500);
  EXPECT_EQ(woken[2], 1u);
  const EntryPlan after_init = enter(2);
  EXPECT_TRUE(after_init.init);
  EXPECT_TRUE(after_init.wait);
  icr(0, 2u << 24, 0x469a);
  const EntryPlan after_sipi = enter(2);
  EXPECT_EQ(after_sipi.sipi, 0x9a);
  EXPECT_FALSE(after_sipi.wait);
  EXPECT_EQ(chip_.activity(2), Activity::Running);
  EXPECT_TRUE(enter(1).wait) << "the others stay";
}

TEST_F(UserChip, a_sipi_right_behind_its_init_is_latched) {
  icr(0, 0, 0xc4500);
  icr(0, 0, 0xc4608);
  for (unsigned i = 1; i < 4; ++i) {
    const EntryPlan plan = enter(i);
    EXPECT_TRUE(plan.init) << i;
    EXPECT_EQ(plan.sipi, 8) << i;
    EXPECT_FALSE(plan.wait) << i;
  }
  EXPECT_FALSE(enter(0).init);
}

TEST_F(UserChip, a_running_processor_ignores_a_sipi) {
  start_all();
  icr(0, 1u << 24, 0x4608);
  EXPECT_EQ(enter(1).sipi, std::nullopt);
  EXPECT_EQ(woken[1], 0u);
}

TEST_F(UserChip, the_second_sipi_of_a_start_is_ignored_once_the_processor_runs) {
  icr(0, 1u << 24, 0x4500);
  icr(0, 1u << 24, 0x4608);
  EXPECT_EQ(enter(1).sipi, 8);
  icr(0, 1u << 24, 0x4608);
  EXPECT_EQ(enter(1).sipi, std::nullopt);
}

TEST_F(UserChip, init_of_a_running_processor_takes_it_away_with_what_was_pending) {
  start_all();
  icr(0, 1u << 24, 0x4041);
  icr(0, 1u << 24, 0x4500);
  const EntryPlan plan = enter(1);
  EXPECT_TRUE(plan.init);
  EXPECT_TRUE(plan.wait);
  EXPECT_EQ(plan.interrupt, std::nullopt);
  EXPECT_EQ(chip_.activity(1), Activity::WaitForSipi);
  EXPECT_FALSE(chip_.lapic(1).requested());
}

TEST_F(UserChip, one_processor_is_reset_and_the_others_are_not) {
  start_all();
  icr(0, 1u << 24, 0x4041);
  chip_.reset(1);
  EXPECT_EQ(chip_.activity(1), Activity::WaitForSipi);
  EXPECT_FALSE(chip_.lapic(1).requested());
  EXPECT_EQ(chip_.lapic(1).state().svr, 0xffu);
  EXPECT_EQ(chip_.activity(2), Activity::Running);
  EXPECT_EQ(chip_.lapic(2).state().svr, 0x1ffu);
  chip_.reset(0);
  EXPECT_EQ(chip_.activity(0), Activity::Running);
}

TEST_F(UserChip, init_sends_the_bootstrap_processor_to_its_reset_vector) {
  icr(1, 0, 0x4500);
  const EntryPlan plan = enter(0);
  EXPECT_TRUE(plan.init);
  EXPECT_FALSE(plan.wait);
}

TEST_F(UserChip, an_init_level_deassert_does_nothing) {
  start_all();
  icr(0, 1u << 24, 0x8500);
  EXPECT_FALSE(enter(1).init);
}

TEST_F(UserChip, a_fixed_interrupt_is_taken_once_and_then_in_service) {
  icr(0, 0, 0x4041);
  EXPECT_EQ(enter(0).interrupt, 0x41);
  EXPECT_EQ(enter(0).interrupt, std::nullopt);
  write(0, kEoi, 0);
  EXPECT_EQ(enter(0).interrupt, std::nullopt);
}

TEST_F(UserChip, without_room_for_it_an_interrupt_asks_for_a_window) {
  icr(0, 0, 0x4041);
  EntryPlan plan = enter(0, false);
  EXPECT_EQ(plan.interrupt, std::nullopt);
  EXPECT_TRUE(plan.window);
  plan = enter(0, true, false);
  EXPECT_EQ(plan.interrupt, std::nullopt);
  EXPECT_TRUE(plan.window);
  plan = enter(0);
  EXPECT_EQ(plan.interrupt, 0x41);
  EXPECT_FALSE(plan.window);
}

TEST_F(UserChip, a_second_interrupt_of_a_higher_class_asks_for_a_window_behind_the_first) {
  icr(0, 0, 0x4041);
  chip_.halt(0);
  icr(0, 0, 0x4061);
  EXPECT_EQ(enter(0).interrupt, 0x61);
  icr(0, 0, 0x4071);
  EXPECT_TRUE(enter(0, true, false).window);
}

TEST_F(UserChip, shorthands_reach_whom_they_name) {
  start_all();
  icr(1, 0, 0x44041);  // self
  EXPECT_EQ(enter(1).interrupt, 0x41);
  EXPECT_EQ(enter(0).interrupt, std::nullopt);
  icr(1, 0, 0xc4042);  // all but self
  for (unsigned i : {0u, 2u, 3u}) EXPECT_EQ(enter(i).interrupt, 0x42) << i;
  icr(1, 0, 0x84055);  // all
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(enter(i).interrupt, 0x55) << i;
}

TEST_F(UserChip, a_physical_destination_is_an_apic_id_not_a_number) {
  start_all();
  icr(0, 4u << 24, 0x4041);
  EXPECT_EQ(enter(3).interrupt, 0x41);
  icr(0, 3u << 24, 0x4042);  // nobody has it
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(enter(i).interrupt, std::nullopt);
}

TEST_F(UserChip, lowest_priority_goes_to_one_processor_with_the_lowest_priority) {
  start_all();
  for (unsigned i = 0; i < 4; ++i) write(i, kLdr, (1u << i) << 24);
  chip_.lapic(0).set_tpr(0x30);
  chip_.lapic(1).set_tpr(0x20);
  chip_.lapic(2).set_tpr(0x10);
  chip_.lapic(3).set_tpr(0x20);
  chip_.send(
      {.destination = 0x0f, .logical = true, .mode = DeliveryMode::LowestPriority, .vector = 0x61});
  EXPECT_EQ(enter(2).interrupt, 0x61);
  for (unsigned i : {0u, 1u, 3u}) EXPECT_EQ(enter(i).interrupt, std::nullopt) << i;
}

TEST_F(UserChip, lowest_priority_passes_over_a_disabled_lapic) {
  start_all();
  for (unsigned i = 0; i < 4; ++i) write(i, kLdr, (1u << i) << 24);
  write(0, kSvr, 0xff);
  chip_.send(
      {.destination = 0x03, .logical = true, .mode = DeliveryMode::LowestPriority, .vector = 0x61});
  EXPECT_EQ(enter(1).interrupt, 0x61);
}

TEST_F(UserChip, an_interrupt_that_cannot_be_taken_now_does_not_disturb_the_guest) {
  start_all();
  chip_.lapic(1).set_tpr(0x50);
  icr(0, 1u << 24, 0x4041);
  EXPECT_EQ(woken[1], 0u);
  icr(0, 1u << 24, 0x4061);
  EXPECT_EQ(woken[1], 1u);
}

TEST_F(UserChip, a_halted_processor_waits_until_an_interrupt_that_it_takes) {
  start_all();
  chip_.halt(1);
  EXPECT_TRUE(enter(1).wait);
  icr(0, 1u << 24, 0x4041);
  EXPECT_EQ(woken[1], 1u);
  EXPECT_TRUE(enter(1, false).wait) << "interrupts are off";
  const EntryPlan plan = enter(1);
  EXPECT_FALSE(plan.wait);
  EXPECT_EQ(plan.interrupt, 0x41);
}

TEST_F(UserChip, an_nmi_wakes_a_processor_that_halted_with_interrupts_off) {
  start_all();
  chip_.halt(1);
  EXPECT_FALSE(*chip_.can_wake_masked(1));
  icr(0, 1u << 24, 0x4400);
  EXPECT_TRUE(*chip_.can_wake_masked(1));
  const EntryPlan plan = enter(1, false);
  EXPECT_TRUE(plan.nmi);
  EXPECT_FALSE(plan.wait);
  EXPECT_FALSE(enter(1, false).nmi);
}

TEST_F(UserChip, a_waiting_processor_takes_no_nmi) {
  icr(0, 1u << 24, 0x4400);
  EXPECT_TRUE(enter(1).wait);
  EXPECT_FALSE(*chip_.can_wake_masked(1));
}

TEST_F(UserChip, the_8259a_reaches_the_bootstrap_processor_as_firmware_leaves_it) {
  extint = true;
  chip_.set_intr(true);
  EXPECT_EQ(woken[0], 1u);
  const EntryPlan plan = enter(0);
  EXPECT_EQ(plan.interrupt, 0x28);
  EXPECT_FALSE(extint) << "the INTA cycle took it";
}

TEST_F(UserChip, the_8259a_comes_before_the_lapic) {
  extint = true;
  chip_.set_intr(true);
  icr(0, 0, 0x4041);
  EXPECT_EQ(enter(0).interrupt, 0x28);
  EXPECT_EQ(enter(0).interrupt, 0x41);
}

TEST_F(UserChip, cr8_and_the_tpr_are_one) {
  chip_.after_exit(0, {.cr8 = 5, .apic_base = chip_.lapic(0).base()});
  EXPECT_EQ(chip_.lapic(0).tpr(), 0x50);
  EXPECT_EQ(enter(0).cr8, 5);
  chip_.lapic(0).set_tpr(0x37);
  chip_.after_exit(0, {.cr8 = 3, .apic_base = chip_.lapic(0).base()});
  EXPECT_EQ(chip_.lapic(0).tpr(), 0x37) << "the sub-class stays";
}

TEST_F(UserChip, the_registers_move_with_the_base_and_go_with_it) {
  EXPECT_EQ(chip_.register_at(1, 0xfee00020), 0x20u);
  chip_.after_exit(1, {.apic_base = 0xfed40800});
  EXPECT_EQ(chip_.register_at(1, 0xfee00020), std::nullopt);
  EXPECT_EQ(chip_.register_at(1, 0xfed40020), 0x20u);
  EXPECT_EQ(chip_.register_at(0, 0xfee00020), 0x20u) << "each has its own";
  chip_.after_exit(1, {.apic_base = 0xfed40c00});
  EXPECT_EQ(chip_.register_at(1, 0xfed40020), std::nullopt) << "x2APIC has no page";
  chip_.after_exit(1, {.apic_base = 0xfed40000});
  EXPECT_EQ(chip_.register_at(1, 0xfed40020), std::nullopt) << "nor has a disabled one";
}

TEST_F(UserChip, a_level_triggered_vector_tells_the_ioapic_of_its_eoi) {
  chip_.send({.destination = 0, .vector = 0x45, .level_triggered = true});
  EXPECT_EQ(enter(0).interrupt, 0x45);
  write(0, kEoi, 0);
  EXPECT_EQ(eois, std::vector<std::uint8_t>{0x45});
  chip_.send({.destination = 0, .vector = 0x46});
  EXPECT_EQ(enter(0).interrupt, 0x46);
  write(0, kEoi, 0);
  EXPECT_EQ(eois.size(), 1u);
}

TEST_F(UserChip, a_message_is_accepted_where_its_destination_takes_it) {
  const ApicMessage fixed{.destination = 0, .vector = 0x45};
  EXPECT_TRUE(chip_.send(fixed));
  EXPECT_TRUE(chip_.send(fixed)) << "although it is requested already";
  EXPECT_FALSE(chip_.send({.destination = 9, .vector = 0x45})) << "nobody has that id";
  EXPECT_FALSE(
      chip_.send({.destination = 9, .mode = DeliveryMode::LowestPriority, .vector = 0x45}));
  write(0, 0xf0, 0xff);
  EXPECT_FALSE(chip_.send(fixed)) << "a software-disabled LAPIC takes none";
}

TEST_F(UserChip, a_timer_that_is_due_wakes_its_processor) {
  start_all();
  write(1, 0x3e0, 0xb);
  write(1, 0x320, 0x40);
  write(1, 0x380, 1000);
  chip_.halt(1);
  ASSERT_TRUE(chip_.next_deadline());
  EXPECT_EQ(*chip_.next_deadline(), VmTime{1000});
  chip_.advance(VmTime{999});
  EXPECT_EQ(woken[1], 0u);
  chip_.advance(VmTime{1000});
  EXPECT_EQ(woken[1], 1u);
  EXPECT_EQ(enter(1).interrupt, 0x40);
  EXPECT_EQ(chip_.next_deadline(), std::nullopt);
}

TEST_F(UserChip, an_smi_is_counted_and_nothing_else) {
  icr(0, 0, 0x4200);
  EXPECT_EQ(chip_.ignored_smis(), 1u);
  EXPECT_EQ(woken[0], 0u);
}

TEST_F(UserChip, a_storm_of_commands_leaves_one_interrupt_a_vector) {
  start_all();
  for (unsigned i = 0; i < 100'000; ++i) icr(0, 1u << 24, 0x4000 | (0x20 + i % 0xe0));
  unsigned taken = 0;
  for (unsigned i = 0; i < 1000; ++i) {
    if (!enter(1).interrupt) break;
    ++taken;
    write(1, kEoi, 0);
  }
  EXPECT_EQ(taken, 0xe0u);
}

TEST_F(UserChip, state_goes_round) {
  start_all();
  chip_.halt(1);
  icr(0, 2u << 24, 0x4500);
  icr(0, 2u << 24, 0x4608);
  icr(0, 1u << 24, 0x4400);
  const StateBlock saved = save_state(chip_);
  UserIrqChip other(kIds, wires());
  ASSERT_TRUE(load_state(other, saved));
  EXPECT_EQ(save_state(other), saved);
  EXPECT_EQ(other.activity(1), Activity::Halted);
}

// ---- the timeline

using Texts = std::vector<std::string>;

TEST_F(UserChip, the_timeline_names_who_started_whom) {
  icr(0, 0, 0xc4500);
  EXPECT_EQ(noted(), (Texts{"0: ipi init to all-but-self", "1: init from vCPU 0",
                            "2: init from vCPU 0", "3: init from vCPU 0"}));
  icr(0, 2u << 24, 0x469a);
  EXPECT_EQ(noted(), (Texts{"0: ipi sipi 9ah to 2h", "2: sipi 9ah from vCPU 0"}));
  enter(2);
  icr(0, 2u << 24, 0x469a);
  EXPECT_EQ(noted(), (Texts{"0: ipi sipi 9ah to 2h", "2: ignored sipi 9ah to 2h from vCPU 0"}))
      << "it runs by now";
  icr(0, 7u << 24, 0x4500);
  EXPECT_EQ(noted(), Texts{"0: ipi init to 7h"}) << "no processor has that id";
}

TEST_F(UserChip, the_timeline_follows_an_interrupt_from_sender_to_eoi) {
  start_all();
  chip_.halt(1);
  icr(2, 1u << 24, 0x4041);
  EXPECT_EQ(noted(), (Texts{"2: ipi fixed 41h to 1h", "1: accept 41h from vCPU 2"}));
  enter(1);
  EXPECT_EQ(noted(), (Texts{"1: wake", "1: inject 41h lapic"}));
  write(1, kEoi, 0);
  EXPECT_EQ(noted(), Texts{"1: eoi 41h"});
  chip_.send({.destination = 1, .vector = 0x42});
  EXPECT_EQ(noted(), Texts{"1: accept 42h"}) << "of the IOAPIC";
  write(3, kSvr, 0xff);
  icr(2, 4u << 24, 0x4043);
  EXPECT_EQ(noted(), (Texts{"2: ipi fixed 43h to 4h", "3: ignored fixed 43h to 4h from vCPU 2"}))
      << "its LAPIC is off";
}

TEST_F(UserChip, the_timeline_has_nmis_and_the_8259a) {
  start_all();
  chip_.halt(1);
  icr(0, 1u << 24, 0x4400);
  enter(1);
  EXPECT_EQ(noted(), (Texts{"0: ipi nmi to 1h", "1: nmi from vCPU 0", "1: wake", "1: inject-nmi"}));
  extint = true;
  chip_.set_intr(true);
  enter(0);
  EXPECT_EQ(noted(), Texts{"0: inject 28h pic"});
  icr(0, 1u << 24, 0x4200);
  EXPECT_EQ(noted(), (Texts{"0: ipi smi to 1h", "1: ignored smi to 1h from vCPU 0"}));
}

}  // namespace
}  // namespace vmm
