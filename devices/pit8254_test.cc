#include "devices/pit8254.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "devices/port_access.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

constexpr unsigned kControl = 3;
constexpr unsigned kPort61 = 4;

// The first nanosecond of a tick.
VmTime at(std::int64_t tick) {
  const std::int64_t seconds = tick / Pit8254::kFrequency;
  const std::int64_t rest = tick % Pit8254::kFrequency * 1'000'000'000;
  return VmTime(seconds * 1'000'000'000 + (rest + Pit8254::kFrequency - 1) / Pit8254::kFrequency);
}

class Pit8254Test : public testing::Test {
 protected:
  RecordingIrq irq;
  IrqPins pins{irq, 1};
  Pit8254 pit{"pit", pins.line(0)};
  std::int64_t now = 0;

  void go(std::int64_t ticks) {
    now += ticks;
    pit.advance(at(now));
  }
  void command(unsigned value) { out(pit, kControl, value); }
  // Control word and count, both bytes.
  void program(unsigned counter, unsigned mode, unsigned count) {
    command(counter << 6 | 0x30 | mode << 1);
    load(counter, count);
  }
  void load(unsigned counter, unsigned count) {
    out(pit, counter, count & 0xff);
    out(pit, counter, count >> 8);
  }
  int count(unsigned counter) {
    command(counter << 6);
    const int low = in(pit, counter);
    return low | in(pit, counter) << 8;
  }
  int status(unsigned counter) {
    command(0xe0u | 2u << counter);
    return in(pit, counter);
  }
  bool out2() { return (in(pit, kPort61) & 0x20) != 0; }
  void gate2(bool level) { out(pit, kPort61, level ? 1 : 0); }
  bool line() const { return !irq.changes.empty() && irq.changes.back().second; }
  // How many edges there were since the last question.
  long rises() {
    const long n = std::count(irq.changes.begin(), irq.changes.end(), std::pair(0u, true));
    irq.changes.clear();
    return n;
  }
  // Serves deadlines until `ticks` later, as the machine does when it is never late.
  void run(std::int64_t ticks) {
    const std::int64_t end = now + ticks;
    for (auto next = pit.next_deadline(); next && *next <= at(end); next = pit.next_deadline())
      pit.advance(*next);
    now = end;
    pit.advance(at(end));
  }
};

TEST_F(Pit8254Test, power_on_waits_for_nothing_with_its_line_low) {
  go(1'000'000);
  EXPECT_FALSE(pit.next_deadline());
  EXPECT_TRUE(irq.changes.empty());
}

TEST_F(Pit8254Test, mode_0_rises_one_clock_after_the_count_is_over) {
  program(0, 0, 100);
  EXPECT_EQ(pit.next_deadline(), at(101));
  go(100);
  EXPECT_FALSE(line());
  EXPECT_EQ(count(0), 1);
  go(1);
  EXPECT_TRUE(line());
  EXPECT_EQ(count(0), 0);
  EXPECT_FALSE(pit.next_deadline());
  go(1);
  EXPECT_EQ(count(0), 0xffff) << "goes on counting";
  EXPECT_TRUE(line());
}

TEST_F(Pit8254Test, mode_0_lowers_the_line_with_the_first_byte_of_a_new_count) {
  program(0, 0, 10);
  go(20);
  EXPECT_TRUE(line());
  out(pit, 0, 50);
  EXPECT_FALSE(line());
  go(1000);
  EXPECT_FALSE(line()) << "it waits for the second byte";
  out(pit, 0, 0);
  go(51);
  EXPECT_TRUE(line());
}

TEST_F(Pit8254Test, mode_2_gives_an_edge_a_period) {
  program(0, 2, 1000);
  EXPECT_TRUE(line());
  rises();
  for (int i = 0; i < 10; ++i) {
    run(1000);
    EXPECT_EQ(rises(), i == 0 ? 0 : 1) << "the count is loaded a clock after it was written";
  }
  run(1);
  EXPECT_EQ(rises(), 1);
}

TEST_F(Pit8254Test, mode_3_is_high_for_the_longer_half) {
  program(0, 3, 5);
  rises();
  std::vector<bool> levels;
  for (int i = 0; i < 11; ++i) {
    run(1);
    levels.push_back((status(0) & 0x80) != 0);
  }
  EXPECT_EQ(levels, std::vector<bool>({1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1}));
  EXPECT_EQ(irq.changes,
            (std::vector<std::pair<unsigned, bool>>{{0, false}, {0, true}, {0, false}, {0, true}}));
}

TEST_F(Pit8254Test, mode_3_counts_down_by_two) {
  program(0, 3, 6);
  std::vector<int> counts;
  for (int i = 0; i < 7; ++i) {
    go(1);
    counts.push_back(count(0));
  }
  EXPECT_EQ(counts, std::vector<int>({6, 4, 2, 6, 4, 2, 6}));
  program(0, 3, 5);
  counts.clear();
  for (int i = 0; i < 6; ++i) {
    go(1);
    counts.push_back(count(0));
  }
  EXPECT_EQ(counts, std::vector<int>({4, 2, 0, 4, 2, 4}));
}

TEST_F(Pit8254Test, mode_4_strobes_once) {
  program(0, 4, 10);
  rises();
  run(10);
  EXPECT_TRUE(irq.changes.empty());
  run(2);
  EXPECT_EQ(rises(), 1);
  run(200'000);
  EXPECT_EQ(rises(), 0);
  EXPECT_FALSE(pit.next_deadline());
}

TEST_F(Pit8254Test, modes_1_and_5_wait_for_a_gate_that_counter_0_does_not_have) {
  for (const unsigned mode : {1u, 5u}) {
    program(0, mode, 10);
    EXPECT_TRUE(line());
    EXPECT_FALSE(pit.next_deadline());
    go(1000);
    EXPECT_TRUE(line());
  }
}

TEST_F(Pit8254Test, a_late_machine_gives_one_edge_and_keeps_the_phase) {
  program(0, 2, 1000);
  run(1);
  rises();
  go(1'000'500);
  EXPECT_EQ(rises(), 1);
  EXPECT_EQ(pit.next_deadline(), at(1'001'001));
  program(0, 3, 1000);
  run(1);
  rises();
  go(1'000'600);  // in the low half
  EXPECT_EQ(rises(), 1);
  EXPECT_TRUE(pit.state().late);
  EXPECT_EQ(status(0) & 0x80, 0) << "the register tells the truth";
  run(399);
  EXPECT_EQ(rises(), 0);
  run(1);
  EXPECT_EQ(irq.changes, (std::vector<std::pair<unsigned, bool>>{{0, false}, {0, true}}));
  run(500);
  EXPECT_FALSE(line()) << "in step again";
}

TEST_F(Pit8254Test, the_shortest_periods_cost_no_more_than_the_longest) {
  program(0, 2, 2);
  go(std::int64_t{1} << 50);
  EXPECT_LE(irq.changes.size(), 4u);
  program(0, 2, 1);
  EXPECT_FALSE(pit.next_deadline()) << "an illegal count never ends";
  program(0, 3, 1);
  EXPECT_FALSE(pit.next_deadline());
}

TEST_F(Pit8254Test, a_day_of_ticks_does_not_drift) {
  program(0, 2, 65536 & 0xffff);
  go(1);
  const std::int64_t day = 86'400 * Pit8254::kFrequency;
  go(day);
  EXPECT_EQ(pit.next_deadline(), at(1 + (day / 65536 + 1) * 65536));
  EXPECT_EQ(count(0), 65536 - day % 65536);
  pit.advance(VmTime(86'400'000'000'000 * 2));
  now = 2 * day;
  EXPECT_EQ(count(0), 65536 - (2 * day - 1) % 65536);
}

TEST_F(Pit8254Test, the_end_of_time_is_survived) {
  program(0, 2, 0);
  pit.advance(VmTime::max());
  (void)pit.next_deadline();
  count(0);
  program(0, 0, 0);
  EXPECT_EQ(pit.next_deadline(), VmTime::max());
}

TEST_F(Pit8254Test, a_new_count_waits_for_the_end_of_the_period) {
  program(0, 2, 100);
  go(50);
  EXPECT_EQ(status(0) & 0x40, 0);
  load(0, 1000);
  EXPECT_EQ(status(0) & 0x40, 0x40) << "null count";
  EXPECT_EQ(count(0), 51);
  EXPECT_EQ(pit.next_deadline(), at(101));
  go(51);
  EXPECT_EQ(status(0) & 0x40, 0);
  EXPECT_EQ(count(0), 1000);
  EXPECT_EQ(pit.next_deadline(), at(1101));
}

TEST_F(Pit8254Test, a_new_count_in_mode_3_waits_for_the_end_of_the_half) {
  program(0, 3, 100);
  go(1 + 20);
  load(0, 1000);
  EXPECT_EQ(pit.next_deadline(), at(51));
  go(30);
  EXPECT_FALSE(line());
  EXPECT_EQ(pit.next_deadline(), at(51 + 500));
}

TEST_F(Pit8254Test, a_control_word_resets_the_counter) {
  program(0, 2, 100);
  go(30);
  command(0x34);
  out(pit, 0, 7);
  command(0x34);  // half a count is forgotten
  EXPECT_EQ(status(0), 0xf4);
  EXPECT_FALSE(pit.next_deadline());
  load(0, 200);
  go(1);
  EXPECT_EQ(count(0), 200);
}

TEST_F(Pit8254Test, access_low_and_high_byte_alone) {
  command(0x14);  // low byte
  out(pit, 0, 0x80);
  go(1);
  EXPECT_EQ(in(pit, 0), 0x80);
  EXPECT_EQ(in(pit, 0), 0x80);
  command(0x24);  // high byte
  out(pit, 0, 0x12);
  go(1);
  EXPECT_EQ(in(pit, 0), 0x12);
  go(1);
  EXPECT_EQ(in(pit, 0), 0x11);
}

TEST_F(Pit8254Test, both_bytes_alternate_while_the_count_goes_on) {
  program(0, 2, 0x1201);
  go(1);
  EXPECT_EQ(in(pit, 0), 0x01);
  go(2);
  EXPECT_EQ(in(pit, 0), 0x11);
  EXPECT_EQ(in(pit, 0), 0xff);
}

TEST_F(Pit8254Test, a_latched_count_waits_to_be_read) {
  program(0, 2, 0x1234);
  go(1);
  command(0x00);
  go(0x100);
  command(0x00);  // ignored, the first is not read yet
  EXPECT_EQ(in(pit, 0), 0x34);
  EXPECT_EQ(in(pit, 0), 0x12);
  EXPECT_EQ(in(pit, 0), 0x34);
  EXPECT_EQ(in(pit, 0), 0x11) << "the count itself again";
}

TEST_F(Pit8254Test, read_back_latches_status_and_count_of_several_counters) {
  program(0, 2, 500);
  program(2, 0, 300);
  go(1);
  command(0xca);  // status and count, counters 0 and 2
  go(10);
  EXPECT_EQ(in(pit, 0), 0xb4) << "OUT, both bytes, mode 2";
  EXPECT_EQ(in(pit, 0), 500 & 0xff);
  EXPECT_EQ(in(pit, 0), 500 >> 8);
  EXPECT_EQ(in(pit, 2), 0x30);
  EXPECT_EQ(in(pit, 2), 300 & 0xff);
  EXPECT_EQ(in(pit, 2), 300 >> 8);
}

TEST_F(Pit8254Test, status_gives_the_mode_bits_as_written) {
  command(0x3e);  // mode 7 is 3
  EXPECT_EQ(status(0), 0xfe);
}

TEST_F(Pit8254Test, bcd_counts_in_decimal) {
  command(0x31);  // mode 0, BCD
  load(0, 0x1000);
  go(2);
  EXPECT_EQ(count(0), 0x0999);
  go(1000);
  EXPECT_EQ(count(0), 0x9999);
  command(0x35);
  load(0, 0);
  EXPECT_EQ(pit.next_deadline(), at(now + 1 + 10'000));
}

TEST_F(Pit8254Test, writing_before_any_control_word_does_nothing) {
  load(0, 100);
  go(1000);
  EXPECT_FALSE(pit.next_deadline());
  EXPECT_TRUE(irq.changes.empty());
}

TEST_F(Pit8254Test, port_61h_gates_counter_2_and_shows_its_output) {
  program(2, 0, 100);
  go(1000);
  EXPECT_FALSE(out2()) << "the gate is low";
  gate2(true);
  go(60);
  gate2(false);
  go(1000);
  EXPECT_EQ(count(2), 40);
  gate2(true);
  go(40);
  EXPECT_TRUE(out2());
  EXPECT_FALSE(pit.next_deadline()) << "counter 2 wakes no one";
}

TEST_F(Pit8254Test, port_61h_keeps_its_low_four_bits) {
  out(pit, kPort61, 0xff);
  EXPECT_EQ(in(pit, kPort61) & 0xcf, 0x0f);
}

TEST_F(Pit8254Test, the_refresh_bit_toggles_every_18_clocks) {
  int toggles = 0;
  int last = in(pit, kPort61) & 0x10;
  for (int i = 0; i < 180; ++i) {
    go(1);
    const int bit = in(pit, kPort61) & 0x10;
    if (bit != last) ++toggles;
    last = bit;
  }
  EXPECT_EQ(toggles, 10);
}

TEST_F(Pit8254Test, counter_2_works_for_calibration_loops) {
  // What Linux and GRUB do: mode 0, gate on, poll OUT.
  out(pit, kPort61, 0x01);
  program(2, 0, 59659);
  go(59'659);
  EXPECT_FALSE(out2());
  go(1);
  EXPECT_TRUE(out2());
}

TEST_F(Pit8254Test, bios_defaults_tick_at_18_hz) {
  pit.set_bios_defaults();
  rises();
  run(Pit8254::kFrequency);
  EXPECT_EQ(rises(), 18);
}

TEST_F(Pit8254Test, loading_brings_the_line_and_the_deadline_without_an_edge) {
  program(0, 3, 1000);
  go(100);
  const StateBlock saved = save_state(pit);
  RecordingIrq other_irq;
  IrqPins other_pins(other_irq, 1);
  Pit8254 other("pit", other_pins.line(0));
  ASSERT_TRUE(load_state(other, saved).has_value());
  EXPECT_TRUE(other_irq.changes.empty());
  EXPECT_EQ(other.next_deadline(), pit.next_deadline());
  other.advance(*other.next_deadline());
  EXPECT_EQ(other_irq.changes, (std::vector<std::pair<unsigned, bool>>{{0, false}}));
}

TEST_F(Pit8254Test, port_43h_is_not_read) {
  std::array<std::uint8_t, 2> data{};
  EXPECT_EQ(pit.read(kControl, std::span(data).first(1)), Access::NoRegister);
  EXPECT_EQ(pit.read(5, std::span(data).first(1)), Access::NoRegister);
  EXPECT_EQ(pit.read(0, data), Access::BadWidth);
}

// The line's edges are those of counter 0's output, when the machine is never late.
TEST_F(Pit8254Test, every_rising_edge_reaches_the_line_through_deadlines_alone) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    const unsigned modes[] = {0, 2, 3, 4};
    const unsigned mode = modes[random() % 4];
    program(0, mode, static_cast<unsigned>(2 + random() % 30));
    rises();
    long expected = 0;
    for (int step = 0; step < 1000; ++step) {
      if (random() % 100 == 0) load(0, static_cast<unsigned>(2 + random() % 30));
      const bool before = (status(0) & 0x80) != 0;
      run(1);
      const bool after = (status(0) & 0x80) != 0;
      expected += !before && after ? 1 : 0;
    }
    EXPECT_EQ(rises(), expected) << "seed " << seed << " mode " << mode;
  }
}

}  // namespace
}  // namespace vmm
