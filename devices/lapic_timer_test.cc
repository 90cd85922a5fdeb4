// The timer in its three modes, 11.5.4.
#include "devices/lapic_rig.h"

namespace vmm {
namespace {

constexpr std::uint32_t kOneShot = 0x00000;
constexpr std::uint32_t kPeriodic = 0x20000;
constexpr std::uint32_t kDeadline = 0x40000;
constexpr std::uint32_t kMasked = 0x10000;

class LapicTimer : public LapicRig {
 protected:
  LapicTimer() {
    enable();
    put(0x3e0, 0xb);  // undivided: one tick is 1 ns
    lapic.advance(VmTime(1000));
  }
  void start(std::uint32_t mode, std::uint32_t count) {
    put(0x320, mode | 0x41);
    put(0x380, count);
  }
  void at(std::int64_t time) { lapic.advance(VmTime(time)); }
  std::uint32_t count() { return get(0x390); }
  // Whether the timer interrupted since it was last asked.
  bool fired() {
    if (lapic.requested() != 0x41) return false;
    lapic.acknowledge(0x41);
    eoi();
    return true;
  }
};

TEST_F(LapicTimer, one_shot_counts_down_and_interrupts_once) {
  start(kOneShot, 500);
  EXPECT_EQ(count(), 500u);
  EXPECT_EQ(lapic.next_deadline(), VmTime(1500));
  at(1001);
  EXPECT_EQ(count(), 499u);
  at(1499);
  EXPECT_EQ(count(), 1u);
  EXPECT_FALSE(fired());
  at(1500);
  EXPECT_EQ(count(), 0u);
  EXPECT_TRUE(fired());
  EXPECT_FALSE(lapic.next_deadline());
  at(1'000'000);
  EXPECT_FALSE(fired());
  EXPECT_EQ(get(0x380), 500u) << "the initial count stays";
  EXPECT_EQ(notes[0], (Note{"lapic-timer", 0x41}));
}

TEST_F(LapicTimer, one_shot_starts_again_with_each_initial_count) {
  start(kOneShot, 500);
  at(1400);
  put(0x380, 200);
  EXPECT_EQ(count(), 200u);
  at(1500);
  EXPECT_FALSE(fired());
  at(1600);
  EXPECT_TRUE(fired());
  put(0x380, 10);
  at(1610);
  EXPECT_TRUE(fired());
}

TEST_F(LapicTimer, an_initial_count_of_0_stops) {
  for (const std::uint32_t mode : {kOneShot, kPeriodic}) {
    start(mode, 500);
    put(0x380, 0);
    EXPECT_EQ(count(), 0u);
    EXPECT_FALSE(lapic.next_deadline());
    at(1'000'000);
    EXPECT_FALSE(fired());
  }
}

TEST_F(LapicTimer, every_divisor_divides) {
  const std::vector<std::pair<std::uint32_t, unsigned>> divisors = {
      {0x0, 2}, {0x1, 4}, {0x2, 8}, {0x3, 16}, {0x8, 32}, {0x9, 64}, {0xa, 128}, {0xb, 1}};
  std::int64_t now = 1000;
  for (const auto& [code, divisor] : divisors) {
    put(0x3e0, code);
    EXPECT_EQ(get(0x3e0), code);
    start(kOneShot, 10);
    EXPECT_EQ(lapic.next_deadline(), VmTime(now + 10 * divisor)) << divisor;
    at(now + divisor - 1);
    EXPECT_EQ(count(), 10u) << "a tick counts when it is over";
    at(now + divisor);
    EXPECT_EQ(count(), 9u) << divisor;
    at(now += 10 * divisor);
    EXPECT_TRUE(fired()) << divisor;
  }
}

TEST_F(LapicTimer, the_longest_count_is_exact) {
  put(0x3e0, 0xa);
  start(kPeriodic, 0xffffffff);
  EXPECT_EQ(count(), 0xffffffffu);
  EXPECT_EQ(lapic.next_deadline(), VmTime(1000 + (std::int64_t{0xffffffff} << 7)));
  at(1000 + 128);
  EXPECT_EQ(count(), 0xfffffffeu);
}

TEST_F(LapicTimer, a_new_divisor_keeps_the_count_and_changes_its_pace) {
  start(kOneShot, 1000);
  at(1600);
  EXPECT_EQ(count(), 400u);
  put(0x3e0, 0x3);
  EXPECT_EQ(count(), 400u);
  EXPECT_EQ(lapic.next_deadline(), VmTime(1600 + 400 * 16));
  at(1600 + 100 * 16 + 7);
  EXPECT_EQ(count(), 300u);
  put(0x3e0, 0x0);
  EXPECT_EQ(count(), 300u);
  put(0x3e0, 0xb);
  EXPECT_EQ(count(), 300u);
  put(0x3e0, 0xb);
  EXPECT_EQ(count(), 300u);
  put(0x3e0, 0xa);
  EXPECT_EQ(count(), 300u);
}

TEST_F(LapicTimer, a_divisor_written_while_stopped_starts_nothing) {
  put(0x3e0, 0x3);
  EXPECT_EQ(count(), 0u);
  start(kOneShot, 10);
  at(10'000);
  EXPECT_TRUE(fired());
  put(0x3e0, 0x0);
  EXPECT_EQ(count(), 0u);
  EXPECT_FALSE(lapic.next_deadline());
}

TEST_F(LapicTimer, periodic_reloads_without_drift) {
  start(kPeriodic, 100'000);
  std::int64_t now = 1000;
  for (unsigned i = 1; i <= 100; ++i) {
    // Woken late each time, by more and more.
    now = 1000 + i * std::int64_t{100'000} + i * 37;
    at(now);
    EXPECT_TRUE(fired()) << i;
    EXPECT_EQ(lapic.next_deadline(), VmTime(1000 + (i + 1) * std::int64_t{100'000}));
    EXPECT_EQ(count(), 100'000u - i * 37);
  }
}

TEST_F(LapicTimer, periodic_is_at_its_initial_count_when_it_reloads) {
  start(kPeriodic, 100'000);
  at(1000 + 100'000 - 1);
  EXPECT_EQ(count(), 1u);
  at(1000 + 100'000);
  EXPECT_EQ(count(), 100'000u);
}

TEST_F(LapicTimer, far_behind_is_one_interrupt_and_the_phase_stays) {
  start(kPeriodic, 100'000);
  at(1000 + 12'345 * std::int64_t{100'000} + 99);
  EXPECT_TRUE(fired());
  EXPECT_EQ(notes.size(), 2u) << "one expiry, one EOI";
  EXPECT_EQ(lapic.next_deadline(), VmTime(1000 + 12'346 * std::int64_t{100'000}));
  EXPECT_EQ(count(), 100'000u - 99);
}

TEST_F(LapicTimer, a_period_of_1_ns_takes_no_longer_than_any_other) {
  start(kPeriodic, 1);
  at(std::int64_t{3600} * 1'000'000'000);
  EXPECT_TRUE(fired());
  EXPECT_EQ(count(), 1u);
  for (std::int64_t i = 0; i < 100'000; ++i) at(std::int64_t{3600} * 1'000'000'000 + i);
  EXPECT_TRUE(fired());
}

TEST_F(LapicTimer, short_periods_ask_to_be_woken_in_good_time_only) {
  for (const std::uint32_t period : {1u, 3u, 999u, 49'999u}) {
    start(kPeriodic, period);
    const VmTime now{1000};
    const std::optional<VmTime> deadline = lapic.next_deadline();
    ASSERT_TRUE(deadline);
    EXPECT_GE(*deadline, now + Lapic::kShortestWake);
    EXPECT_LT(*deadline, now + Lapic::kShortestWake + VmTime(period));
    EXPECT_EQ((*deadline - now).count() % period, 0) << "it is one of the expiries";
  }
  start(kPeriodic, 50'000);
  EXPECT_EQ(lapic.next_deadline(), VmTime(51'000));
  start(kOneShot, 1);
  EXPECT_EQ(lapic.next_deadline(), VmTime(1001));
}

TEST_F(LapicTimer, masked_it_counts_without_interrupts_or_wake_ups) {
  start(kOneShot | kMasked, 500);
  EXPECT_FALSE(lapic.next_deadline());
  at(1200);
  EXPECT_EQ(count(), 300u);
  put(0x320, kOneShot | 0x41);
  EXPECT_EQ(lapic.next_deadline(), VmTime(1500));
  put(0x320, kOneShot | kMasked | 0x41);
  at(1600);
  EXPECT_EQ(count(), 0u);
  put(0x320, kOneShot | 0x41);
  at(2000);
  EXPECT_FALSE(fired()) << "what passed while masked is gone";
  EXPECT_TRUE(notes.empty());
}

TEST_F(LapicTimer, masked_periodic_keeps_its_phase) {
  start(kPeriodic | kMasked, 100'000);
  at(1000 + 100'000 * 7 + 300);
  EXPECT_EQ(count(), 99'700u);
  put(0x320, kPeriodic | 0x41);
  EXPECT_FALSE(fired());
  EXPECT_EQ(lapic.next_deadline(), VmTime(1000 + 100'000 * 8));
  at(1000 + 100'000 * 8);
  EXPECT_TRUE(fired());
}

TEST_F(LapicTimer, software_disabling_masks_but_does_not_stop_it) {
  start(kOneShot, 500);
  put(0xf0, 0xff);
  EXPECT_FALSE(lapic.next_deadline());
  at(1300);
  EXPECT_EQ(count(), 200u);
  at(1500);
  EXPECT_FALSE(lapic.requested());
  EXPECT_EQ(count(), 0u);
}

TEST_F(LapicTimer, changing_to_periodic_goes_on_from_where_it_was) {
  start(kOneShot, 100'000);
  at(1000 + 60'000);
  put(0x320, kPeriodic | 0x41);
  EXPECT_EQ(count(), 40'000u);
  at(1000 + 100'000);
  EXPECT_TRUE(fired());
  EXPECT_EQ(count(), 100'000u);
  at(1000 + 200'000);
  EXPECT_TRUE(fired());
}

TEST_F(LapicTimer, changing_to_one_shot_ends_at_the_next_0) {
  start(kPeriodic, 100'000);
  at(1000 + 160'000);
  EXPECT_TRUE(fired());
  put(0x320, kOneShot | 0x41);
  EXPECT_EQ(count(), 40'000u);
  at(1000 + 200'000);
  EXPECT_TRUE(fired());
  EXPECT_EQ(count(), 0u);
  put(0x320, kPeriodic | 0x41);
  at(1000 + 900'000);
  EXPECT_EQ(count(), 0u) << "a run-out counter is not started by a mode";
  EXPECT_FALSE(fired());
}

TEST_F(LapicTimer, the_vector_is_the_one_at_the_expiry) {
  start(kOneShot, 500);
  put(0x320, kOneShot | 0x52);
  at(1500);
  EXPECT_EQ(take(), 0x52);
}

TEST_F(LapicTimer, an_illegal_vector_is_an_error) {
  put(0x320, kOneShot | 0x0e);
  put(0x380, 10);
  at(1010);
  EXPECT_FALSE(lapic.requested());
  EXPECT_EQ(errors(), 0x40u);
}

TEST_F(LapicTimer, an_expiry_while_requested_is_not_counted) {
  start(kPeriodic, 100'000);
  at(1000 + 100'000);
  at(1000 + 200'000);
  EXPECT_TRUE(fired());
  EXPECT_FALSE(lapic.requested());
}

TEST_F(LapicTimer, time_that_goes_backwards_is_time_that_stands_still) {
  start(kOneShot, 500);
  at(1200);
  at(0);
  at(-5);
  EXPECT_EQ(count(), 300u);
  EXPECT_EQ(lapic.next_deadline(), VmTime(1500));
}

TEST_F(LapicTimer, the_end_of_time_overflows_nothing) {
  lapic.advance(VmTime::max());
  start(kPeriodic, 0xffffffff);
  put(0x3e0, 0xa);
  EXPECT_EQ(count(), 0xffffffffu);
  lapic.advance(VmTime::max());
  (void)lapic.next_deadline();
}

TEST_F(LapicTimer, init_and_hardware_disabling_stop_it) {
  start(kPeriodic, 500);
  lapic.init();
  at(1'000'000);
  EXPECT_FALSE(lapic.requested());
  EXPECT_EQ(count(), 0u);
  enable();
  start(kPeriodic, 500);
  lapic.set_base(0xfee00100);
  at(2'000'000);
  EXPECT_FALSE(lapic.next_deadline());
  lapic.set_base(0xfee00900);
  EXPECT_EQ(count(), 0u);
}

TEST_F(LapicTimer, deadline_mode_exists_only_if_allowed) {
  put(0x320, kDeadline | 0x41);
  EXPECT_EQ(get(0x320), 0x41u);
  EXPECT_FALSE(lapic.tsc_deadline_mode());
  lapic.set_tsc_deadline(5000, VmTime(2000));
  EXPECT_EQ(lapic.tsc_deadline(), 0u);
  EXPECT_FALSE(lapic.next_deadline());
  put(0x320, kDeadline | kPeriodic | 0x41);
  EXPECT_EQ(get(0x320), kPeriodic | 0x41);
}

class LapicDeadline : public LapicTimer {
 protected:
  LapicDeadline() {
    lapic.allow_tsc_deadline(true);
    put(0x320, kDeadline | 0x41);
  }
};

TEST_F(LapicDeadline, the_deadline_interrupts_once_and_reads_0_after) {
  EXPECT_TRUE(lapic.tsc_deadline_mode());
  EXPECT_EQ(get(0x320), kDeadline | 0x41);
  lapic.set_tsc_deadline(123'456, VmTime(5000));
  EXPECT_EQ(lapic.tsc_deadline(), 123'456u);
  EXPECT_EQ(lapic.next_deadline(), VmTime(5000));
  at(4999);
  EXPECT_FALSE(fired());
  EXPECT_EQ(lapic.tsc_deadline(), 123'456u);
  at(5000);
  EXPECT_TRUE(fired());
  EXPECT_EQ(lapic.tsc_deadline(), 0u);
  EXPECT_FALSE(lapic.next_deadline());
}

TEST_F(LapicDeadline, a_deadline_in_the_past_interrupts_at_once) {
  lapic.set_tsc_deadline(1, VmTime(1000));
  EXPECT_EQ(lapic.tsc_deadline(), 0u);
  EXPECT_TRUE(fired());
  lapic.set_tsc_deadline(1, VmTime::min());
  EXPECT_TRUE(fired());
}

TEST_F(LapicDeadline, writing_0_disarms_and_another_value_rearms) {
  lapic.set_tsc_deadline(100, VmTime(2000));
  lapic.set_tsc_deadline(0, VmTime(0));
  EXPECT_FALSE(lapic.next_deadline());
  at(3000);
  EXPECT_FALSE(fired());
  lapic.set_tsc_deadline(100, VmTime(4000));
  lapic.set_tsc_deadline(200, VmTime(5000));
  at(4500);
  EXPECT_FALSE(fired());
  at(5000);
  EXPECT_TRUE(fired());
}

TEST_F(LapicDeadline, the_counts_are_0_and_cannot_be_written) {
  put(0x380, 100);
  EXPECT_EQ(get(0x380), 0u);
  EXPECT_EQ(count(), 0u);
  lapic.set_tsc_deadline(100, VmTime(2000));
  put(0x380, 0);
  put(0x3e0, 0x3);
  EXPECT_EQ(count(), 0u);
  EXPECT_EQ(lapic.next_deadline(), VmTime(2000));
}

TEST_F(LapicDeadline, changing_between_deadline_and_counting_disarms) {
  lapic.set_tsc_deadline(100, VmTime(2000));
  put(0x320, kOneShot | 0x41);
  EXPECT_EQ(lapic.tsc_deadline(), 0u);
  EXPECT_FALSE(lapic.next_deadline());
  put(0x380, 500);
  put(0x320, kDeadline | 0x41);
  EXPECT_EQ(get(0x380), 0u);
  EXPECT_FALSE(lapic.next_deadline());
  put(0x320, kPeriodic | 0x41);
  EXPECT_EQ(count(), 0u);
  at(1'000'000);
  EXPECT_FALSE(fired());
}

TEST_F(LapicDeadline, another_vector_or_mask_does_not_disarm) {
  lapic.set_tsc_deadline(100, VmTime(2000));
  put(0x320, kDeadline | kMasked | 0x51);
  EXPECT_FALSE(lapic.next_deadline());
  EXPECT_EQ(lapic.tsc_deadline(), 100u);
  put(0x320, kDeadline | 0x51);
  EXPECT_EQ(lapic.next_deadline(), VmTime(2000));
  at(2000);
  EXPECT_EQ(take(), 0x51);
}

TEST_F(LapicDeadline, masked_it_passes_silently) {
  put(0x320, kDeadline | kMasked | 0x41);
  lapic.set_tsc_deadline(100, VmTime(2000));
  at(2500);
  EXPECT_EQ(lapic.tsc_deadline(), 0u);
  put(0x320, kDeadline | 0x41);
  at(3000);
  EXPECT_FALSE(fired());
}

TEST_F(LapicDeadline, no_deadline_without_the_lapic) {
  lapic.set_tsc_deadline(100, VmTime(2000));
  lapic.set_base(0xfee00100);
  EXPECT_EQ(lapic.tsc_deadline(), 0u);
  lapic.set_tsc_deadline(100, VmTime(2000));
  EXPECT_EQ(lapic.tsc_deadline(), 0u);
}

class LoadedTimer : public LapicTimer {
 protected:
  // A LAPIC with the state of `lapic` but for some fields.
  void load(const std::vector<std::pair<std::string, std::string>>& fields) {
    StateBlock block = save_state(lapic);
    for (auto& [name, value] : block.fields) {
      for (const auto& [changed, to] : fields) {
        if (name == changed) value = to;
      }
    }
    ASSERT_TRUE(load_state(copy, block).has_value());
    const StateBlock once = save_state(copy);
    EXPECT_EQ(save_state(copy), once);
  }
  std::uint32_t copied_count() {
    std::array<std::uint8_t, 4> data{};
    EXPECT_EQ(copy.read(0x390, data), Access::Ok);
    std::uint32_t value = 0;
    std::memcpy(&value, data.data(), sizeof value);
    return value;
  }
  Lapic copy{"copy", 0, true, {}};
};

TEST_F(LoadedTimer, is_put_where_running_could_have_brought_it) {
  start(kPeriodic, 500);
  for (const char* expiry : {"0x0", "0x8000000000000000", "0x7fffffffffffffff", "0x3e8"}) {
    for (const std::string_view now : {"0x0", "0xffffffffffffffff", "0x7fffffffffffffff"}) {
      load({{"expiry", expiry}, {"now", std::string(now)}});
      EXPECT_GT(copied_count(), 0u) << expiry << " " << now;
      EXPECT_LE(copied_count(), 500u) << expiry << " " << now;
      ASSERT_TRUE(copy.next_deadline());
      copy.advance(*copy.next_deadline());
      // From the end of time on it stands still.
      if (!now.starts_with("0x7f")) {
        EXPECT_EQ(copy.requested(), 0x41);
      }
      copy.advance(VmTime::max());
      EXPECT_LE(copied_count(), 500u);
    }
  }
}

TEST_F(LoadedTimer, with_a_count_of_0_does_not_run) {
  start(kPeriodic, 500);
  load({{"initial_count", "0x0"}});
  EXPECT_FALSE(copy.next_deadline());
  copy.advance(VmTime(1'000'000));
  EXPECT_FALSE(copy.requested());
}

TEST_F(LoadedTimer, in_deadline_mode_is_armed_wholly_or_not_at_all) {
  lapic.allow_tsc_deadline(true);
  copy.allow_tsc_deadline(true);
  put(0x320, kDeadline | 0x41);
  lapic.set_tsc_deadline(100, VmTime(2000));
  load({{"initial_count", "0x5"}});
  EXPECT_EQ(copy.state().initial_count, 0u);
  EXPECT_EQ(copy.next_deadline(), VmTime(2000));
  load({{"tsc_deadline", "0x0"}});
  EXPECT_FALSE(copy.next_deadline());
}

}  // namespace
}  // namespace vmm
