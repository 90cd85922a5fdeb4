#include "devices/pic8259.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "devices/port_access.h"

namespace vmm {
namespace {

constexpr unsigned kMaster = 0;
constexpr unsigned kSlave = 2;
constexpr unsigned kEoi = 0x20;

class Pic8259Test : public testing::Test {
 protected:
  std::vector<bool> intr;
  Pic8259 pic{"pic", [this](bool level) { intr.push_back(level); }};

  Pic8259Test() {
    init(kMaster, 0x11, 0x30, 4, 1);
    init(kSlave, 0x11, 0x38, 2, 1);
  }
  void init(unsigned chip, unsigned icw1, unsigned icw2, unsigned icw3, unsigned icw4) {
    out(pic, chip, icw1);
    out(pic, chip + 1, icw2);
    if ((icw1 & 2) == 0) out(pic, chip + 1, icw3);
    if ((icw1 & 1) != 0) out(pic, chip + 1, icw4);
  }
  int irr(unsigned chip) {
    out(pic, chip, 0x0a);
    return in(pic, chip);
  }
  int isr(unsigned chip) {
    out(pic, chip, 0x0b);
    return in(pic, chip);
  }
  int poll(unsigned chip) {
    out(pic, chip, 0x0c);
    return in(pic, chip);
  }
  bool output() const { return pic.pending().has_value(); }
  void raise(unsigned irq) { pic.set_irq(irq, true); }
  void drop(unsigned irq) { pic.set_irq(irq, false); }
};

TEST_F(Pic8259Test, power_on_masks_nothing_at_base_0) {
  pic.reset();
  EXPECT_EQ(in(pic, 1), 0);
  EXPECT_EQ(in(pic, 3), 0);
  raise(3);
  EXPECT_EQ(pic.pending(), 3);
}

TEST_F(Pic8259Test, bios_defaults_are_08h_and_70h_with_the_timer_open) {
  pic.reset();
  pic.set_bios_defaults();
  EXPECT_EQ(in(pic, 1), 0xb8);
  EXPECT_EQ(in(pic, 3), 0x8e);
  raise(0);
  EXPECT_EQ(pic.acknowledge(), 0x08);
  out(pic, kMaster, kEoi);
  raise(8);
  EXPECT_EQ(pic.acknowledge(), 0x70);
}

TEST_F(Pic8259Test, an_edge_goes_from_irr_to_isr_to_its_end) {
  raise(3);
  EXPECT_EQ(irr(kMaster), 0x08);
  EXPECT_EQ(pic.pending(), 0x33);
  EXPECT_EQ(intr, std::vector<bool>({true}));
  EXPECT_EQ(pic.acknowledge(), 0x33);
  EXPECT_EQ(irr(kMaster), 0);
  EXPECT_EQ(isr(kMaster), 0x08);
  EXPECT_FALSE(output());
  out(pic, kMaster, kEoi);
  EXPECT_EQ(isr(kMaster), 0);
  EXPECT_FALSE(output()) << "the line is still high, without a new edge";
  drop(3);
  raise(3);
  EXPECT_EQ(pic.pending(), 0x33);
  EXPECT_EQ(intr, std::vector<bool>({true, false, true}));
}

TEST_F(Pic8259Test, an_edge_that_falls_before_it_is_taken_is_gone) {
  raise(3);
  drop(3);
  EXPECT_EQ(irr(kMaster), 0);
  EXPECT_EQ(intr, std::vector<bool>({true, false}));
}

TEST_F(Pic8259Test, without_a_request_the_acknowledge_is_irq_7_and_leaves_no_trace) {
  EXPECT_EQ(pic.acknowledge(), 0x37);
  EXPECT_EQ(isr(kMaster), 0);
  EXPECT_TRUE(intr.empty());
}

TEST_F(Pic8259Test, a_slave_request_that_went_away_is_irq_15_with_the_cascade_in_service) {
  raise(9);
  drop(9);
  EXPECT_EQ(pic.pending(), 0x3f);
  EXPECT_EQ(pic.acknowledge(), 0x3f);
  EXPECT_EQ(isr(kMaster), 0x04);
  EXPECT_EQ(isr(kSlave), 0);
  EXPECT_FALSE(output());
}

TEST_F(Pic8259Test, the_slave_comes_through_input_2) {
  raise(12);
  EXPECT_EQ(irr(kMaster), 0x04);
  EXPECT_EQ(pic.acknowledge(), 0x3c);
  EXPECT_EQ(isr(kMaster), 0x04);
  EXPECT_EQ(isr(kSlave), 0x10);
}

TEST_F(Pic8259Test, input_2_is_not_a_line) {
  raise(2);
  EXPECT_FALSE(output());
  EXPECT_EQ(irr(kMaster), 0);
}

TEST_F(Pic8259Test, a_higher_priority_interrupts_and_a_lower_one_waits) {
  raise(5);
  EXPECT_EQ(pic.acknowledge(), 0x35);
  raise(6);
  EXPECT_FALSE(output());
  raise(1);
  EXPECT_EQ(pic.acknowledge(), 0x31);
  EXPECT_EQ(isr(kMaster), 0x22);
  out(pic, kMaster, kEoi);  // ends the highest, 1
  EXPECT_EQ(isr(kMaster), 0x20);
  EXPECT_FALSE(output());
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.pending(), 0x36);
}

TEST_F(Pic8259Test, the_slave_stands_between_inputs_1_and_3) {
  raise(3);
  raise(15);
  raise(1);
  EXPECT_EQ(pic.acknowledge(), 0x31);
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.acknowledge(), 0x3f);
  EXPECT_EQ(isr(kSlave), 0x80) << "not the spurious one";
  EXPECT_FALSE(output());
  out(pic, kSlave, kEoi);
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.acknowledge(), 0x33);
}

TEST_F(Pic8259Test, a_second_slave_request_waits_for_both_ends) {
  raise(9);
  raise(10);
  EXPECT_EQ(pic.acknowledge(), 0x39);
  out(pic, kSlave, kEoi);
  EXPECT_FALSE(output()) << "the cascade is still in service";
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.acknowledge(), 0x3a);
}

TEST_F(Pic8259Test, masks_hold_requests_back_without_losing_them) {
  out(pic, 1, 0x08);
  raise(3);
  EXPECT_EQ(irr(kMaster), 0x08);
  EXPECT_FALSE(output());
  out(pic, 1, 0x00);
  EXPECT_EQ(pic.pending(), 0x33);
  EXPECT_EQ(in(pic, 1), 0x00);
}

TEST_F(Pic8259Test, masking_the_cascade_silences_the_slave) {
  out(pic, 1, 0x04);
  raise(8);
  EXPECT_FALSE(output());
  out(pic, 1, 0x00);
  EXPECT_EQ(pic.pending(), 0x38);
}

TEST_F(Pic8259Test, a_specific_eoi_ends_what_it_names) {
  raise(5);
  pic.acknowledge();
  raise(1);
  pic.acknowledge();
  out(pic, kMaster, 0x65);
  EXPECT_EQ(isr(kMaster), 0x02);
  out(pic, kMaster, 0x66);  // not in service
  EXPECT_EQ(isr(kMaster), 0x02);
}

TEST_F(Pic8259Test, set_priority_names_the_lowest) {
  out(pic, kMaster, 0xc4);  // 4 lowest, 5 highest
  raise(1);
  raise(4);
  raise(6);
  EXPECT_EQ(pic.acknowledge(), 0x36);
  EXPECT_FALSE(output());
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.acknowledge(), 0x31);
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.acknowledge(), 0x34);
}

TEST_F(Pic8259Test, rotate_on_nonspecific_eoi_makes_the_served_one_lowest) {
  raise(4);
  raise(6);
  EXPECT_EQ(pic.acknowledge(), 0x34);
  out(pic, kMaster, 0xa0);
  EXPECT_EQ(pic.state().master.lowest, 4);
  EXPECT_EQ(isr(kMaster), 0);
  drop(4);
  raise(4);
  EXPECT_EQ(pic.acknowledge(), 0x36);
}

TEST_F(Pic8259Test, rotate_on_specific_eoi) {
  raise(4);
  pic.acknowledge();
  out(pic, kMaster, 0xe4);
  EXPECT_EQ(isr(kMaster), 0);
  EXPECT_EQ(pic.state().master.lowest, 4);
}

TEST_F(Pic8259Test, a_nonspecific_eoi_with_nothing_in_service_rotates_nothing) {
  out(pic, kMaster, 0xa0);
  EXPECT_EQ(pic.state().master.lowest, 7);
}

TEST_F(Pic8259Test, automatic_eoi_ends_with_the_acknowledge) {
  init(kMaster, 0x11, 0x30, 4, 3);
  raise(3);
  EXPECT_EQ(pic.acknowledge(), 0x33);
  EXPECT_EQ(isr(kMaster), 0);
  EXPECT_EQ(pic.state().master.lowest, 7);
}

TEST_F(Pic8259Test, rotation_in_automatic_eoi_can_be_set_and_cleared) {
  init(kMaster, 0x11, 0x30, 4, 3);
  out(pic, kMaster, 0x80);
  raise(3);
  pic.acknowledge();
  EXPECT_EQ(pic.state().master.lowest, 3);
  out(pic, kMaster, 0x00);
  raise(5);
  pic.acknowledge();
  EXPECT_EQ(pic.state().master.lowest, 3);
}

TEST_F(Pic8259Test, int_falls_with_the_acknowledge_even_when_more_waits) {
  init(kMaster, 0x11, 0x30, 4, 3);
  intr.clear();
  raise(3);
  raise(5);
  pic.acknowledge();
  EXPECT_EQ(intr, std::vector<bool>({true, false, true}));
  EXPECT_EQ(pic.acknowledge(), 0x35);
}

TEST_F(Pic8259Test, a_level_input_asks_while_it_is_high) {
  out(pic, 4, 0x20);  // ELCR: IRQ 5
  raise(5);
  EXPECT_EQ(pic.acknowledge(), 0x35);
  EXPECT_EQ(irr(kMaster), 0x20);
  EXPECT_FALSE(output());
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.pending(), 0x35);
  drop(5);
  EXPECT_FALSE(output());
}

TEST_F(Pic8259Test, elcr_keeps_the_timer_keyboard_clock_and_fpu_edge_triggered) {
  out(pic, 4, 0xff);
  out(pic, 5, 0xff);
  EXPECT_EQ(in(pic, 4), 0xf8);
  EXPECT_EQ(in(pic, 5), 0xde);
}

TEST_F(Pic8259Test, elcr_switches_a_line_that_is_high) {
  raise(5);
  pic.acknowledge();
  out(pic, kMaster, kEoi);
  EXPECT_FALSE(output());
  out(pic, 4, 0x20);
  EXPECT_EQ(pic.pending(), 0x35);
  out(pic, 4, 0x00);
  EXPECT_FALSE(output());
}

TEST_F(Pic8259Test, ltim_makes_every_input_level_triggered) {
  init(kMaster, 0x19, 0x30, 4, 1);
  raise(0);
  EXPECT_EQ(pic.acknowledge(), 0x30);
  out(pic, kMaster, kEoi);
  EXPECT_EQ(pic.pending(), 0x30);
  drop(0);
  raise(9);
  EXPECT_EQ(pic.acknowledge(), 0x39);
  out(pic, kSlave, kEoi);
  out(pic, kMaster, kEoi);
  EXPECT_FALSE(output()) << "the cascade is a level too, and the slave asks no more";
}

TEST_F(Pic8259Test, special_mask_mode_lets_lower_priorities_in) {
  raise(1);
  pic.acknowledge();
  raise(6);
  EXPECT_FALSE(output());
  out(pic, 1, 0x02);
  EXPECT_FALSE(output());
  out(pic, kMaster, 0x68);
  EXPECT_EQ(pic.acknowledge(), 0x36);
  // A non-specific EOI does not end what is masked.
  out(pic, kMaster, kEoi);
  EXPECT_EQ(isr(kMaster), 0x02);
  out(pic, kMaster, kEoi);
  EXPECT_EQ(isr(kMaster), 0x02);
  out(pic, kMaster, 0x61);
  EXPECT_EQ(isr(kMaster), 0);
}

TEST_F(Pic8259Test, special_mask_mode_needs_its_enable_bit) {
  out(pic, kMaster, 0x68);
  out(pic, kMaster, 0x28);  // SMM without ESMM
  EXPECT_TRUE(pic.state().master.special_mask);
  out(pic, kMaster, 0x48);
  EXPECT_FALSE(pic.state().master.special_mask);
}

TEST_F(Pic8259Test, special_fully_nested_mode_lets_the_slave_interrupt_itself) {
  init(kMaster, 0x11, 0x30, 4, 0x11);
  raise(12);
  EXPECT_EQ(pic.acknowledge(), 0x3c);
  raise(14);
  EXPECT_FALSE(output()) << "lower on the slave";
  raise(3);
  EXPECT_FALSE(output()) << "lower on the master";
  raise(9);
  EXPECT_EQ(pic.acknowledge(), 0x39);
  EXPECT_EQ(isr(kSlave), 0x12);
}

TEST_F(Pic8259Test, fully_nested_mode_locks_the_slave_out_of_itself) {
  raise(12);
  pic.acknowledge();
  raise(9);
  EXPECT_FALSE(output());
}

TEST_F(Pic8259Test, a_poll_acknowledges_and_names_the_level) {
  raise(5);
  EXPECT_EQ(poll(kMaster), 0x85);
  EXPECT_EQ(isr(kMaster), 0x20);
  EXPECT_FALSE(output());
  EXPECT_EQ(poll(kMaster), 0x00);
}

TEST_F(Pic8259Test, a_poll_works_at_the_odd_port_and_once) {
  raise(5);
  out(pic, kMaster, 0x0c);
  EXPECT_EQ(in(pic, 1), 0x85);
  EXPECT_EQ(in(pic, 1), 0x00) << "the mask again";
}

TEST_F(Pic8259Test, polling_the_slave_takes_its_request_from_the_master) {
  raise(11);
  EXPECT_EQ(poll(kSlave), 0x83);
  EXPECT_FALSE(output());
  EXPECT_EQ(irr(kMaster), 0);
  EXPECT_EQ(isr(kMaster), 0);
}

TEST_F(Pic8259Test, polling_the_master_then_the_slave_finds_a_slave_request) {
  raise(11);
  EXPECT_EQ(poll(kMaster), 0x82);
  EXPECT_EQ(poll(kSlave), 0x83);
  out(pic, kSlave, kEoi);
  out(pic, kMaster, kEoi);
  EXPECT_FALSE(output());
}

TEST_F(Pic8259Test, poll_wins_over_read_select) {
  raise(5);
  out(pic, kMaster, 0x0f);
  EXPECT_EQ(in(pic, kMaster), 0x85);
  EXPECT_EQ(in(pic, kMaster), 0x00) << "IRR is still selected";
}

TEST_F(Pic8259Test, the_read_select_stays) {
  raise(5);
  pic.acknowledge();
  raise(6);
  out(pic, kMaster, 0x0b);
  EXPECT_EQ(in(pic, kMaster), 0x20);
  out(pic, kMaster, kEoi);
  EXPECT_EQ(in(pic, kMaster), 0x00);
  out(pic, kMaster, 0x0a);
  EXPECT_EQ(in(pic, kMaster), 0x40);
}

TEST_F(Pic8259Test, icw1_clears_masks_modes_and_edges) {
  out(pic, 1, 0xff);
  out(pic, kMaster, 0xc3);
  out(pic, kMaster, 0x68);
  out(pic, kMaster, 0x0b);
  raise(5);
  out(pic, kMaster, 0x11);
  EXPECT_EQ(in(pic, 1), 0x00);
  EXPECT_EQ(in(pic, kMaster), 0x00) << "IRR, and the edge is forgotten";
  EXPECT_EQ(pic.state().master.lowest, 7);
  EXPECT_FALSE(pic.state().master.special_mask);
  drop(5);
  raise(5);
  EXPECT_FALSE(output()) << "not before the sequence is over";
  out(pic, 1, 0x43);  // bits 2:0 of ICW2 do not count
  out(pic, 1, 4);
  EXPECT_FALSE(output());
  out(pic, 1, 1);
  EXPECT_EQ(pic.pending(), 0x45);
}

TEST_F(Pic8259Test, icw1_without_icw4_leaves_its_functions_off) {
  init(kMaster, 0x11, 0x30, 4, 0x13);
  init(kMaster, 0x10, 0x30, 4, 0);
  EXPECT_EQ(pic.state().master.expects, Pic8259::Expects::Ocw1);
  EXPECT_FALSE(pic.state().master.aeoi);
  EXPECT_FALSE(pic.state().master.sfnm);
}

TEST_F(Pic8259Test, single_mode_has_no_icw3) {
  init(kMaster, 0x13, 0x30, 0, 3);
  EXPECT_EQ(pic.state().master.expects, Pic8259::Expects::Ocw1);
  EXPECT_TRUE(pic.state().master.aeoi);
}

TEST_F(Pic8259Test, initialising_both_forgets_a_slave_request) {
  raise(9);
  init(kMaster, 0x11, 0x30, 4, 1);
  init(kSlave, 0x11, 0x38, 2, 1);
  EXPECT_FALSE(output());
}

TEST_F(Pic8259Test, a_saved_state_brings_its_request_back_without_telling) {
  raise(9);
  std::vector<bool> told;
  Pic8259 other("pic", [&](bool level) { told.push_back(level); });
  ASSERT_TRUE(load_state(other, save_state(pic)).has_value());
  EXPECT_TRUE(told.empty());
  EXPECT_EQ(other.pending(), 0x39);
  EXPECT_EQ(other.acknowledge(), 0x39);
  EXPECT_EQ(told, std::vector<bool>({false}));
}

TEST_F(Pic8259Test, registers_are_bytes_at_six_offsets) {
  std::vector<std::uint8_t> data(2);
  EXPECT_EQ(pic.read(0, data), Access::BadWidth);
  EXPECT_EQ(pic.write(5, data), Access::BadWidth);
  EXPECT_EQ(pic.read(6, std::span(data).first(1)), Access::NoRegister);
}

// Whatever a guest and its devices do, what the outside was told is what pending() says, and an
// acknowledge gives the vector that was promised.
TEST_F(Pic8259Test, output_and_vector_agree_under_random_use) {
  for (unsigned seed = 0; seed < 16; ++seed) {
    std::mt19937 random(seed);
    for (unsigned i = 0; i < 20'000; ++i) {
      const auto dice = static_cast<std::uint32_t>(random());
      switch (dice % 4) {
        case 0:
          pic.set_irq((dice >> 8) % 16, (dice & 0x10) != 0);
          break;
        case 1:
          out(pic, (dice >> 8) % 6, dice >> 16);
          break;
        case 2:
          in(pic, (dice >> 8) % 6);
          break;
        default: {
          const auto promised = pic.pending();
          const std::uint8_t vector = pic.acknowledge();
          EXPECT_EQ(vector, promised.value_or(pic.state().master.base + 7));
          break;
        }
      }
      ASSERT_EQ(!intr.empty() && intr.back(), output()) << "seed " << seed << " step " << i;
    }
    for (std::size_t i = 0; i < intr.size(); ++i) ASSERT_EQ(intr[i], i % 2 == 0) << "changes only";
    intr.clear();
    pic.reset();
    if (!intr.empty()) {
      ASSERT_EQ(intr, std::vector<bool>({false}));
    }
    intr.clear();
  }
}

}  // namespace
}  // namespace vmm
