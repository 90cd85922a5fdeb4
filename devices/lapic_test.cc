// Acceptance and priority, EOI, pins, destinations, modes and resets; the section numbers are those
// of SDM vol. 3A chapter 11.
#include <algorithm>
#include <random>

#include "devices/lapic_rig.h"

namespace vmm {
namespace {

using Vectors = std::vector<std::uint8_t>;

class LapicTest : public LapicRig {
 protected:
  LapicTest() { enable(); }
};
class LapicOff : public LapicRig {};
class SecondLapic : public LapicRig {
 protected:
  SecondLapic() : LapicRig(3, false) {}
};
class FarLapic : public LapicRig {
 protected:
  FarLapic() : LapicRig(0x123, false) {}
};

TEST_F(LapicTest, an_accepted_interrupt_is_requested_then_in_service_then_gone) {
  lapic.accept(0x41, false);
  EXPECT_TRUE(irr(0x41));
  EXPECT_FALSE(isr(0x41));
  EXPECT_EQ(lapic.pending(), 0x41);
  lapic.acknowledge(0x41);
  EXPECT_FALSE(irr(0x41));
  EXPECT_TRUE(isr(0x41));
  EXPECT_FALSE(lapic.pending());
  eoi();
  EXPECT_FALSE(isr(0x41));
  EXPECT_EQ(lapic.state().irr, Lapic::Bitmap{});
}

TEST_F(LapicTest, every_legal_vector_has_its_own_bits) {
  for (unsigned vector = 16; vector < 256; ++vector) {
    lapic.accept(static_cast<std::uint8_t>(vector), vector % 2 == 0);
    EXPECT_TRUE(irr(vector)) << vector;
    EXPECT_EQ(tmr(vector), vector % 2 == 0) << vector;
    EXPECT_EQ(lapic.requested(), vector);
    EXPECT_EQ(take(), vector);
    EXPECT_TRUE(isr(vector)) << vector;
    eoi();
  }
  EXPECT_EQ(lapic.state().isr, Lapic::Bitmap{});
  EXPECT_EQ(eois.size(), 120u);
}

TEST_F(LapicTest, the_highest_vector_comes_first) {
  for (const std::uint8_t vector : Vectors{0x31, 0xe0, 0x52, 0x53}) lapic.accept(vector, false);
  Vectors order;
  while (const auto vector = take()) {
    order.push_back(*vector);
    eoi();
  }
  EXPECT_EQ(order, (Vectors{0xe0, 0x53, 0x52, 0x31}));
}

TEST_F(LapicTest, the_same_class_waits_for_the_eoi) {
  lapic.accept(0x51, false);
  EXPECT_EQ(take(), 0x51);
  lapic.accept(0x5f, false);
  EXPECT_FALSE(lapic.pending());
  EXPECT_EQ(lapic.requested(), 0x5f);
  eoi();
  EXPECT_EQ(lapic.pending(), 0x5f);
}

TEST_F(LapicTest, a_higher_class_nests_and_eois_end_the_innermost) {
  for (const std::uint8_t vector : Vectors{0x31, 0x52, 0x73}) {
    lapic.accept(vector, false);
    EXPECT_EQ(take(), vector);
  }
  EXPECT_EQ(lapic.ppr(), 0x70);
  eoi();
  EXPECT_FALSE(isr(0x73));
  EXPECT_TRUE(isr(0x52));
  EXPECT_EQ(lapic.ppr(), 0x50);
  lapic.accept(0x6a, false);
  EXPECT_EQ(take(), 0x6a);
  eoi();
  eoi();
  EXPECT_TRUE(isr(0x31));
  EXPECT_FALSE(isr(0x52));
  eoi();
  EXPECT_EQ(lapic.ppr(), 0);
}

TEST_F(LapicTest, a_vector_is_held_once_in_service_and_once_requested) {
  lapic.accept(0x61, false);
  take();
  lapic.accept(0x61, false);
  lapic.accept(0x61, false);
  EXPECT_TRUE(isr(0x61));
  EXPECT_TRUE(irr(0x61));
  eoi();
  EXPECT_EQ(take(), 0x61);
  eoi();
  EXPECT_FALSE(lapic.requested()) << "a third one has no place to wait";
}

TEST_F(LapicTest, task_priority_holds_its_class_and_below) {
  lapic.accept(0x45, false);
  lapic.set_tpr(0x40);
  EXPECT_FALSE(lapic.pending());
  EXPECT_EQ(lapic.requested(), 0x45);
  lapic.set_tpr(0x3f);
  EXPECT_EQ(lapic.pending(), 0x45) << "the sub-class does not count";
  lapic.set_tpr(0xf0);
  lapic.accept(0xff, false);
  EXPECT_FALSE(lapic.pending());
}

// 11.8.3.1: PPR is TPR as a whole, or the class of the interrupt in service.
TEST_F(LapicTest, processor_priority_is_the_greater_class) {
  lapic.set_tpr(0x2b);
  EXPECT_EQ(lapic.ppr(), 0x2b);
  lapic.accept(0x57, false);
  take();
  EXPECT_EQ(get(0xa0), 0x50u);
  lapic.set_tpr(0x53);
  EXPECT_EQ(get(0xa0), 0x53u) << "equal classes: TPR with its sub-class";
  lapic.set_tpr(0x61);
  EXPECT_EQ(lapic.ppr(), 0x61);
  lapic.set_tpr(0);
  EXPECT_EQ(lapic.ppr(), 0x50);
}

TEST_F(LapicTest, priority_agrees_with_a_plain_reading_of_the_rules) {
  std::mt19937 random(1);
  std::array<bool, 256> requested{};
  std::array<bool, 256> serving{};
  unsigned tpr = 0;
  for (unsigned i = 0; i < 20'000; ++i) {
    const auto vector = static_cast<std::uint8_t>(16 + random() % 240);
    switch (random() % 4) {
      case 0:
        lapic.accept(vector, false);
        requested[vector] = true;
        break;
      case 1:
        tpr = random() % 256;
        lapic.set_tpr(static_cast<std::uint8_t>(tpr));
        break;
      case 2:
        if (const auto taken = take()) {
          requested[*taken] = false;
          serving[*taken] = true;
        }
        break;
      default:
        eoi();
        for (unsigned v = 255; v > 0; --v) {
          if (!serving[v]) continue;
          serving[v] = false;
          break;
        }
    }
    unsigned highest_served = 0;
    unsigned highest_wanted = 0;
    for (unsigned v = 0; v < 256; ++v) {
      if (serving[v]) highest_served = v;
      if (requested[v]) highest_wanted = v;
    }
    const unsigned ppr = tpr / 16 >= highest_served / 16 ? tpr : highest_served & 0xf0;
    ASSERT_EQ(lapic.ppr(), ppr);
    if (highest_wanted / 16 > ppr / 16)
      ASSERT_EQ(lapic.pending(), highest_wanted);
    else
      ASSERT_FALSE(lapic.pending());
  }
}

TEST_F(LapicTest, an_eoi_without_an_interrupt_in_service_does_nothing) {
  lapic.accept(0x30, true);
  const Lapic::State before = lapic.state();
  eoi();
  EXPECT_EQ(lapic.state(), before);
  EXPECT_TRUE(eois.empty());
  EXPECT_TRUE(notes.empty());
}

TEST_F(LapicTest, the_eoi_of_a_level_triggered_vector_goes_to_the_ioapics) {
  lapic.accept(0x81, true);
  lapic.accept(0x91, false);
  EXPECT_TRUE(tmr(0x81));
  EXPECT_FALSE(tmr(0x91));
  take();
  eoi();
  EXPECT_TRUE(eois.empty());
  take();
  eoi();
  EXPECT_EQ(eois, Vectors{0x81});
  EXPECT_EQ(notes, (std::vector<Note>{{"eoi", 0x91}, {"eoi", 0x81}}));
}

TEST_F(LapicTest, the_last_acceptance_decides_the_trigger) {
  lapic.accept(0x81, true);
  lapic.accept(0x81, false);
  EXPECT_FALSE(tmr(0x81));
  take();
  eoi();
  EXPECT_TRUE(eois.empty());
}

TEST_F(LapicTest, suppression_keeps_the_eoi_from_the_ioapics) {
  put(0xf0, 0x11ff);
  lapic.accept(0x81, true);
  take();
  eoi();
  EXPECT_FALSE(isr(0x81));
  EXPECT_TRUE(eois.empty());
  put(0xf0, 0x1ff);
  lapic.accept(0x81, true);
  take();
  eoi();
  EXPECT_EQ(eois, Vectors{0x81});
}

TEST_F(LapicTest, suppression_that_is_not_offered_cannot_be_chosen) {
  EXPECT_EQ(get(0x30), 0x01050014u);
  lapic.offer_eoi_suppression(false);
  EXPECT_EQ(get(0x30), 0x00050014u);
  put(0xf0, 0x11ff);
  EXPECT_EQ(get(0xf0), 0x1ffu);
  lapic.accept(0x81, true);
  take();
  eoi();
  EXPECT_EQ(eois, Vectors{0x81});
}

// An IOAPIC whose line is still high sends the next message from within the EOI.
TEST(LapicReentry, an_eoi_may_bring_the_next_interrupt_at_once) {
  Lapic* target = nullptr;
  Lapic lapic("lapic0", 0, true,
              {.broadcast_eoi = [&target](std::uint8_t vector) { target->accept(vector, true); }});
  target = &lapic;
  lapic.set_base(0xfee00d00);
  ASSERT_TRUE(lapic.write_msr(0x80f, 0x1ff));
  lapic.accept(0x55, true);
  lapic.acknowledge(0x55);
  ASSERT_TRUE(lapic.write_msr(0x80b, 0));
  EXPECT_EQ(lapic.pending(), 0x55);
  EXPECT_EQ(lapic.ppr(), 0);
}

TEST_F(LapicTest, received_vectors_below_16_are_errors) {
  for (unsigned vector = 0; vector < 16; ++vector) {
    lapic.accept(static_cast<std::uint8_t>(vector), vector % 2 == 0);
    EXPECT_FALSE(lapic.requested());
    EXPECT_EQ(errors(), 0x40u) << vector;
  }
  EXPECT_EQ(lapic.state().tmr, Lapic::Bitmap{});
}

TEST_F(LapicOff, software_disabled_accepts_nothing) {
  lapic.accept(0x80, false);
  lapic.accept(0x05, false);
  EXPECT_FALSE(lapic.requested());
  EXPECT_EQ(errors(), 0u);
}

// 11.4.7.2: what is in IRR and ISR is held and requires handling by the processor.
TEST_F(LapicTest, software_disabling_holds_what_was_accepted) {
  lapic.accept(0x80, true);
  lapic.accept(0x90, false);
  take();
  put(0xf0, 0xff);
  EXPECT_TRUE(isr(0x90));
  EXPECT_TRUE(irr(0x80));
  lapic.accept(0xa0, false);
  EXPECT_FALSE(irr(0xa0));
  eoi();
  EXPECT_FALSE(isr(0x90));
  EXPECT_EQ(take(), 0x80);
  eoi();
  EXPECT_EQ(eois, Vectors{0x80});
}

TEST_F(LapicTest, software_disabling_masks_every_lvt_entry) {
  for (std::uint64_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) put(lvt, 0x40);
  put(0xf0, 0xff);
  for (std::uint64_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) {
    EXPECT_EQ(get(lvt), 0x10040u) << std::hex << lvt;
    put(lvt, 0x41);
    EXPECT_EQ(get(lvt), 0x10041u) << "the mask cannot be cleared now";
  }
  enable();
  for (std::uint64_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) {
    EXPECT_EQ(get(lvt), 0x10041u) << "enabling unmasks nothing";
    put(lvt, 0x42);
    EXPECT_EQ(get(lvt), 0x42u);
  }
}

TEST_F(LapicOff, power_on_is_as_the_manual_lists_it) {
  EXPECT_EQ(lapic.base(), 0xfee00900u);
  EXPECT_TRUE(lapic.xapic());
  EXPECT_EQ(get(0x20), 0u);
  EXPECT_EQ(get(0x80), 0u);
  EXPECT_EQ(get(0xa0), 0u);
  EXPECT_EQ(get(0xd0), 0u);
  EXPECT_EQ(get(0xe0), 0xffffffffu);
  EXPECT_EQ(get(0xf0), 0xffu);
  for (std::uint64_t bitmap = 0x100; bitmap < 0x280; bitmap += 0x10) EXPECT_EQ(get(bitmap), 0u);
  EXPECT_EQ(get(0x280), 0u);
  EXPECT_EQ(get(0x300), 0u);
  EXPECT_EQ(get(0x310), 0u);
  for (std::uint64_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) EXPECT_EQ(get(lvt), 0x10000u);
  for (const std::uint64_t timer : {0x380u, 0x390u, 0x3e0u}) EXPECT_EQ(get(timer), 0u);
  EXPECT_EQ(lapic.state(), Lapic::State{});
}

TEST_F(SecondLapic, power_on_of_another_processor) {
  EXPECT_EQ(lapic.base(), 0xfee00800u);
  EXPECT_EQ(get(0x20), 0x03000000u);
  EXPECT_EQ(lapic.id(), 3u);
}

TEST_F(SecondLapic, init_resets_all_but_the_id_and_the_base) {
  lapic.set_base(0xfed40800);
  enable();
  put(0x20, 0x09000000);
  put(0x80, 0x20);
  put(0xd0, 0x08000000);
  put(0xe0, 0x0fffffff);
  put(0x310, 0x05000000);
  put(0x300, 0x000c0540);
  put(0x350, 0x700);
  put(0x3e0, 0xb);
  put(0x380, 1000);
  lapic.accept(0x40, true);
  take();
  lapic.accept(0x41, true);
  put(0x300, 0x1);
  put(0x280, 0);
  put(0x300, 0x1);
  lapic.init();
  Lapic::State expected;
  expected.base = 0xfed40800;
  expected.xapic_id = 9;
  EXPECT_EQ(lapic.state(), expected);
  EXPECT_FALSE(lapic.next_deadline());
  lapic.reset();
  expected.base = 0xfee00800;
  expected.xapic_id = 3;
  EXPECT_EQ(lapic.state(), expected);
}

TEST_F(FarLapic, init_in_x2apic_mode_keeps_mode_id_and_ldr) {
  enter_x2apic();
  EXPECT_TRUE(put_msr(0x80f, 0x1ff));
  lapic.init();
  EXPECT_TRUE(lapic.x2apic());
  EXPECT_EQ(get_msr(0x802), 0x123u);
  EXPECT_EQ(get_msr(0x80d), 0x00120008u);
  EXPECT_EQ(get_msr(0x80f), 0xffu);
}

TEST_F(LapicTest, hardware_disabling_resets_and_makes_everything_unreachable) {
  lapic.accept(0x80, true);
  put(0x20, 0x07000000);
  put(0x380, 100);
  lapic.set_base(0xfee00100);
  EXPECT_FALSE(lapic.xapic());
  EXPECT_FALSE(lapic.x2apic());
  EXPECT_FALSE(lapic.pending());
  EXPECT_FALSE(lapic.requested());
  EXPECT_FALSE(lapic.next_deadline());
  EXPECT_FALSE(lapic.matches(0, false));
  EXPECT_FALSE(lapic.matches(kApicBroadcast, false));
  lapic.accept(0x81, false);
  lapic.accept(0x01, false);
  EXPECT_EQ(try_put(0xf0, 0x1ff), Access::NoRegister);
  std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(lapic.read(0x30, data), Access::NoRegister);
  EXPECT_EQ(lapic.read(0x00, data), Access::NoRegister);
  std::uint64_t value = 0;
  EXPECT_FALSE(lapic.read_msr(0x803, value));
  EXPECT_FALSE(put_msr(0x80f, 0x1ff));
  lapic.set_base(0xfee00900);
  EXPECT_EQ(lapic.state(), Lapic::State{});
}

TEST_F(LapicOff, cr8_works_without_the_lapic) {
  lapic.set_base(0xfee00100);
  lapic.set_tpr(0xf0);
  EXPECT_EQ(lapic.tpr(), 0xf0);
  lapic.set_base(0xfee00900);
  EXPECT_EQ(get(0x80), 0xf0u);
}

TEST_F(LapicTest, moving_the_base_changes_nothing_else) {
  lapic.accept(0x80, false);
  const Lapic::State before = lapic.state();
  lapic.set_base(0xfed40900);
  Lapic::State after = lapic.state();
  EXPECT_EQ(after.base, 0xfed40900u);
  after.base = before.base;
  EXPECT_EQ(after, before);
}

TEST_F(SecondLapic, entering_x2apic_mode_keeps_what_is_common) {
  enable();
  put(0x20, 0x55000000);
  put(0x80, 0x30);
  put(0xd0, 0x40000000);
  put(0xe0, 0x0fffffff);
  put(0x310, 0x12000000);
  put(0x300, 0xc0540);
  put(0x340, 0x400);
  lapic.accept(0x77, true);
  enter_x2apic();
  EXPECT_EQ(get_msr(0x802), 3u);
  EXPECT_EQ(get_msr(0x808), 0x30u);
  EXPECT_EQ(get_msr(0x80d), 0x8u);
  EXPECT_EQ(get_msr(0x80f), 0x1ffu);
  EXPECT_EQ(get_msr(0x830), 0xc0540u) << "the destination is cleared";
  EXPECT_EQ(get_msr(0x834), 0x400u);
  EXPECT_EQ(lapic.pending(), 0x77);
  std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(lapic.read(0x20, data), Access::NoRegister);
  EXPECT_EQ(try_put(0x80, 0), Access::NoRegister);
  // Back by way of disabled, the only way there is (11.12.5).
  lapic.set_base(0xfee00000);
  lapic.set_base(0xfee00800);
  EXPECT_EQ(get(0x20), 0x03000000u);
  EXPECT_EQ(get(0xd0), 0u);
  EXPECT_EQ(get(0xe0), 0xffffffffu);
}

TEST_F(SecondLapic, physical_destinations_name_the_id) {
  EXPECT_TRUE(lapic.matches(3, false));
  EXPECT_FALSE(lapic.matches(2, false));
  EXPECT_FALSE(lapic.matches(0x103, false)) << "not its low 8 bits";
  EXPECT_TRUE(lapic.matches(kApicBroadcast, false));
  EXPECT_FALSE(lapic.matches(0xff, false)) << "sources spell the broadcast out";
  put(0x20, 0x09000000);
  EXPECT_TRUE(lapic.matches(9, false));
  EXPECT_FALSE(lapic.matches(3, false));
  EXPECT_EQ(lapic.id(), 9u);
  enter_x2apic();
  EXPECT_TRUE(lapic.matches(3, false));
  EXPECT_FALSE(lapic.matches(9, false));
  EXPECT_TRUE(lapic.matches(kApicBroadcast, false));
}

TEST_F(FarLapic, an_id_above_8_bits_is_reachable_in_either_mode) {
  EXPECT_EQ(lapic.id(), 0x23u);
  EXPECT_TRUE(lapic.matches(0x123, false));
  EXPECT_TRUE(lapic.matches(0x23, false));
  enter_x2apic();
  EXPECT_EQ(lapic.id(), 0x123u);
  EXPECT_TRUE(lapic.matches(0x123, false));
  EXPECT_FALSE(lapic.matches(0x23, false));
}

TEST_F(LapicTest, flat_logical_destinations_share_a_bit) {
  EXPECT_FALSE(lapic.matches(0xfe, true)) << "LDR is 0";
  for (unsigned mine = 0; mine < 8; ++mine) {
    put(0xd0, 1U << (24 + mine));
    for (std::uint32_t destination = 0; destination < 0x200; ++destination) {
      const bool expected = destination < 0x100 && (destination >> mine & 1) != 0;
      ASSERT_EQ(lapic.matches(destination, true), expected) << mine << " " << destination;
    }
  }
}

TEST_F(LapicTest, logical_broadcast_reaches_every_ldr) {
  EXPECT_TRUE(lapic.matches(kApicBroadcast, true));
  put(0xe0, 0);
  EXPECT_TRUE(lapic.matches(kApicBroadcast, true));
}

TEST_F(LapicTest, cluster_logical_destinations_name_the_cluster_and_share_a_bit) {
  put(0xe0, 0);
  for (unsigned ldr = 0; ldr < 0x100; ldr += 7) {
    put(0xd0, ldr << 24);
    for (unsigned destination = 0; destination < 0x100; ++destination) {
      const bool expected = destination / 16 == ldr / 16 && (destination & ldr & 0xf) != 0;
      ASSERT_EQ(lapic.matches(destination, true), expected) << ldr << " " << destination;
    }
  }
}

TEST_F(LapicTest, a_reserved_destination_format_matches_nothing) {
  put(0xd0, 0xff000000);
  put(0xe0, 0x30000000);
  EXPECT_EQ(get(0xe0), 0x3fffffffu);
  for (unsigned destination = 0; destination < 0x100; ++destination)
    EXPECT_FALSE(lapic.matches(destination, true));
}

TEST(LapicLogicalX2apic, the_cluster_is_the_upper_half_and_members_are_bits) {
  for (const std::uint32_t id : {0u, 1u, 15u, 16u, 0x2fu, 0x123u, 0xffff3u, 0xfff00005u}) {
    Lapic lapic("lapic", id, false, {});
    lapic.set_base(0xfee00c00);
    const std::uint32_t cluster = id >> 4 & 0xffff;
    const std::uint32_t member = 1U << (id & 15);
    std::uint64_t ldr = 0;
    ASSERT_TRUE(lapic.read_msr(0x80d, ldr));
    EXPECT_EQ(ldr, cluster << 16 | member);
    EXPECT_TRUE(lapic.matches(cluster << 16 | member, true));
    EXPECT_TRUE(lapic.matches(cluster << 16 | 0xffff, true));
    EXPECT_FALSE(lapic.matches(cluster << 16 | (0xffff & ~member), true));
    EXPECT_FALSE(lapic.matches((cluster ^ 1) << 16 | member, true));
    EXPECT_FALSE(lapic.matches(cluster << 16, true));
    EXPECT_TRUE(lapic.matches(kApicBroadcast, true));
  }
}

TEST_F(LapicOff, virtual_wire_passes_the_8259a_while_software_disabled) {
  EXPECT_FALSE(lapic.wants_extint());
  lapic.set_lint(0, true);
  EXPECT_FALSE(lapic.wants_extint()) << "LINT0 is masked at power-on";
  lapic.set_virtual_wire();
  EXPECT_EQ(get(0x350), 0x700u);
  EXPECT_EQ(get(0xf0), 0xffu);
  EXPECT_TRUE(lapic.wants_extint());
  lapic.set_lint(0, false);
  EXPECT_FALSE(lapic.wants_extint());
}

TEST_F(LapicTest, extint_asks_while_lint0_is_high_and_unmasked) {
  put(0x350, 0x700);
  lapic.set_lint(0, true);
  EXPECT_TRUE(lapic.wants_extint());
  EXPECT_FALSE(lapic.requested()) << "the vector is the 8259A's";
  put(0x350, 0x10700);
  EXPECT_FALSE(lapic.wants_extint());
  put(0x350, 0x730);
  EXPECT_TRUE(lapic.wants_extint()) << "whatever the vector field says";
  put(0x350, 0x400);
  EXPECT_FALSE(lapic.wants_extint());
  put(0x350, 0x700);
  put(0xf0, 0xff);
  EXPECT_FALSE(lapic.wants_extint()) << "software-disabling masks LINT0";
}

TEST_F(LapicTest, without_the_lapic_lint0_is_intr_and_lint1_is_nmi) {
  lapic.set_base(0xfee00100);
  lapic.set_lint(0, true);
  EXPECT_TRUE(lapic.wants_extint());
  lapic.set_lint(1, true);
  lapic.set_lint(1, true);
  EXPECT_EQ(events, std::vector{DeliveryMode::Nmi});
}

TEST_F(LapicTest, a_fixed_lint_accepts_its_rising_edges) {
  put(0x350, 0x61);
  put(0x360, 0x62);
  lapic.set_lint(0, true);
  EXPECT_EQ(take(), 0x61);
  eoi();
  lapic.set_lint(0, true);
  EXPECT_FALSE(lapic.requested());
  lapic.set_lint(0, false);
  EXPECT_FALSE(lapic.requested());
  lapic.set_lint(0, true);
  EXPECT_EQ(take(), 0x61);
  eoi();
  lapic.set_lint(1, true);
  EXPECT_EQ(take(), 0x62);
  EXPECT_TRUE(events.empty());
}

TEST_F(LapicTest, lint_in_nmi_smi_and_init_mode_is_an_event_per_rising_edge) {
  for (const unsigned mode : {0x200u, 0x400u, 0x500u}) {
    put(0x360, mode);
    lapic.set_lint(1, true);
    lapic.set_lint(1, true);
    lapic.set_lint(1, false);
  }
  EXPECT_EQ(events, (std::vector{DeliveryMode::Smi, DeliveryMode::Nmi, DeliveryMode::Init}));
  EXPECT_FALSE(lapic.requested());
}

TEST_F(LapicTest, a_masked_or_reserved_lint_loses_its_edges) {
  for (const unsigned lvt : {0x10061u, 0x10400u, 0x161u, 0x361u, 0x661u}) {
    put(0x360, lvt);
    lapic.set_lint(1, true);
    lapic.set_lint(1, false);
  }
  put(0x360, 0x400);
  EXPECT_TRUE(events.empty());
  EXPECT_FALSE(lapic.requested());
}

TEST_F(LapicTest, level_triggered_lint0_comes_again_after_each_eoi_while_high) {
  put(0x350, 0x8061);
  lapic.set_lint(0, true);
  EXPECT_EQ(get(0x350), 0xc061u) << "remote IRR";
  EXPECT_TRUE(tmr(0x61));
  EXPECT_EQ(take(), 0x61);
  EXPECT_FALSE(lapic.requested());
  eoi();
  EXPECT_EQ(take(), 0x61);
  lapic.set_lint(0, false);
  eoi();
  EXPECT_FALSE(lapic.requested());
  EXPECT_EQ(get(0x350), 0x8061u);
}

TEST_F(LapicTest, level_triggered_lint0_waits_for_its_own_eoi) {
  put(0x350, 0x8061);
  lapic.set_lint(0, true);
  EXPECT_EQ(take(), 0x61);
  lapic.accept(0x91, true);
  EXPECT_EQ(take(), 0x91);
  eoi();
  EXPECT_EQ(get(0x350), 0xc061u) << "another vector's EOI";
  EXPECT_FALSE(lapic.requested());
  eoi();
  EXPECT_EQ(lapic.requested(), 0x61);
}

TEST_F(LapicTest, level_triggered_lint0_comes_at_once_when_unmasked) {
  put(0x350, 0x18061);
  lapic.set_lint(0, true);
  EXPECT_FALSE(lapic.requested());
  put(0x350, 0x8061);
  EXPECT_EQ(take(), 0x61);
  put(0x350, 0x8061);
  EXPECT_FALSE(lapic.requested()) << "it still waits for the EOI";
  put(0x350, 0x8071);
  EXPECT_EQ(take(), 0x71) << "a new vector does not wait for the EOI of the old one";
}

TEST_F(LapicTest, remote_irr_cannot_be_written) {
  put(0x350, 0xc061);
  EXPECT_EQ(get(0x350), 0x8061u);
  put(0x360, 0xc061);
  EXPECT_EQ(get(0x360), 0x8061u);
}

TEST_F(LapicTest, lint1_is_edge_triggered_whatever_its_bit_says) {
  put(0x360, 0x8061);
  lapic.set_lint(1, true);
  EXPECT_FALSE(tmr(0x61));
  EXPECT_EQ(take(), 0x61);
  eoi();
  EXPECT_FALSE(lapic.requested());
  EXPECT_TRUE(eois.empty());
}

TEST_F(LapicTest, an_illegal_vector_on_a_level_pin_is_an_error_without_end) {
  put(0x350, 0x8003);
  lapic.set_lint(0, true);
  EXPECT_EQ(errors(), 0x40u);
  EXPECT_EQ(get(0x350), 0x8003u);
}

TEST_F(LapicTest, pins_keep_their_level_over_resets) {
  lapic.set_lint(0, true);
  lapic.reset();
  lapic.set_virtual_wire();
  EXPECT_TRUE(lapic.wants_extint());
  lapic.init();
  lapic.set_virtual_wire();
  EXPECT_TRUE(lapic.wants_extint());
}

TEST_F(LapicTest, a_saved_state_goes_on_where_it_was) {
  put(0x350, 0x8061);
  lapic.set_lint(0, true);
  lapic.advance(VmTime(1'000'000));
  put(0x320, 0x20041);
  put(0x380, 500);
  Lapic copy("copy", 0, true, {});
  const Result<void> loaded = load_state(copy, save_state(lapic));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().text();
  EXPECT_EQ(copy.state(), lapic.state());
  EXPECT_EQ(copy.next_deadline(), lapic.next_deadline());
  copy.acknowledge(0x61);
  EXPECT_EQ(copy.requested(), std::nullopt);
  copy.advance(VmTime(1'001'000));
  EXPECT_EQ(copy.requested(), 0x41);
}

TEST_F(LapicTest, a_loaded_state_holds_nothing_that_no_guest_could_write) {
  StateBlock block = save_state(lapic);
  for (auto& [name, value] : block.fields) {
    if (!value.starts_with("0x")) value.assign(value.size(), 'f');
    if (name.starts_with("lvt") || name == "dfr" || name == "svr") value = "0xffffffff";
    if (name == "icr") value = "0xffffffffffffffff";
    if (name == "divide") value = "0xff";
  }
  ASSERT_TRUE(load_state(lapic, block).has_value());
  EXPECT_EQ(get(0x320), 0x300ffu);
  EXPECT_EQ(get(0x330), 0x107ffu);
  EXPECT_EQ(get(0x350), 0x1a7ffu);
  EXPECT_EQ(get(0x370), 0x100ffu);
  EXPECT_EQ(get(0xf0), 0x13ffu);
  EXPECT_EQ(get(0x200), 0xffff0000u);
  EXPECT_EQ(get(0x300), 0x000ccfffu);
  EXPECT_EQ(get(0x3e0), 0xbu);
  EXPECT_EQ(lapic.pending(), std::nullopt) << "255 is in service";
}

TEST_F(LapicTest, a_disabled_lapic_that_was_loaded_with_requests_gives_none) {
  lapic.accept(0x80, false);
  StateBlock block = save_state(lapic);
  for (auto& [name, value] : block.fields) {
    if (name == "base") value = "0xfee00100";
  }
  ASSERT_TRUE(load_state(lapic, block).has_value());
  EXPECT_FALSE(lapic.pending());
  EXPECT_FALSE(lapic.requested());
  const Lapic::State before = lapic.state();
  lapic.accept(0x81, true);
  EXPECT_EQ(lapic.state(), before);
}

}  // namespace
}  // namespace vmm
