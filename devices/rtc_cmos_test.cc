#include "devices/rtc_cmos.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "devices/port_access.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Tuesday 2023-11-14 22:13:20 UTC.
constexpr std::int64_t kStart = 1'700'000'000;

constexpr unsigned kA = 0x0a;
constexpr unsigned kB = 0x0b;
constexpr unsigned kC = 0x0c;

class RtcCmosTest : public testing::Test {
 protected:
  RecordingIrq irq;
  IrqPins pins{irq, 9};
  RtcCmos rtc{"rtc", pins.line(8), kStart};
  VmTime now{0};
  int alarms = 0;

  RtcCmosTest() {
    rtc.on_alarm = [this] { ++alarms; };
  }
  void go(VmTime time) {
    now += time;
    rtc.advance(now);
  }
  int get(unsigned index) {
    out(rtc, 0, index);
    return in(rtc, 1);
  }
  void set(unsigned index, unsigned value) {
    out(rtc, 0, index);
    out(rtc, 1, value);
  }
  using Bytes = std::vector<int>;
  // Century, year, month, day, day of week, hours, minutes, seconds.
  Bytes time() { return {get(0x32), get(9), get(8), get(7), get(6), get(4), get(2), get(0)}; }
  void set_time(const Bytes& bytes) {
    const unsigned order[] = {0x32, 9, 8, 7, 6, 4, 2, 0};
    for (std::size_t i = 0; i < bytes.size(); ++i) set(order[i], static_cast<unsigned>(bytes[i]));
  }
  void set_alarm(unsigned hour, unsigned minute, unsigned second) {
    set(5, hour);
    set(3, minute);
    set(1, second);
  }
  bool line() const { return !irq.changes.empty() && irq.changes.back().second; }
  // Serves deadlines until `time` later, acknowledging each interrupt; how many there were.
  int serve(VmTime time) {
    int count = 0;
    const VmTime end = now + time;
    for (auto next = rtc.next_deadline(); next && *next <= end; next = rtc.next_deadline()) {
      rtc.advance(*next);
      if (!line()) continue;
      ++count;
      get(kC);
    }
    now = end;
    rtc.advance(now);
    return count;
  }
};

TEST_F(RtcCmosTest, starts_at_the_given_time_in_bcd_and_24_hours) {
  EXPECT_EQ(time(), Bytes({0x20, 0x23, 0x11, 0x14, 3, 0x22, 0x13, 0x20}));
  EXPECT_EQ(get(kA), 0x26);
  EXPECT_EQ(get(kB), 0x02);
  EXPECT_EQ(get(0x0d), 0x80);
}

TEST_F(RtcCmosTest, time_goes_on_with_virtual_time) {
  go(milliseconds(999));
  EXPECT_EQ(get(0), 0x20);
  go(milliseconds(1));
  EXPECT_EQ(get(0), 0x21);
  go(hours(2));
  EXPECT_EQ(time(), Bytes({0x20, 0x23, 0x11, 0x15, 4, 0x00, 0x13, 0x21}));
}

TEST_F(RtcCmosTest, binary_and_12_hours) {
  set(kB, 0x04);
  EXPECT_EQ(time(), Bytes({20, 23, 11, 14, 3, 0x80 | 10, 13, 20}));
  set(kB, 0x00);
  EXPECT_EQ(get(4), 0x90);
  go(hours(2));
  EXPECT_EQ(get(4), 0x12) << "midnight is 12 AM";
  go(hours(12));
  EXPECT_EQ(get(4), 0x92) << "noon is 12 PM";
}

TEST_F(RtcCmosTest, leap_years_and_centuries) {
  set_time({0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x59});
  go(seconds(1));
  EXPECT_EQ(time(), Bytes({0x20, 0x24, 0x02, 0x29, 5, 0, 0, 0}));
  set_time({0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59});
  go(seconds(1));
  EXPECT_EQ(time(), Bytes({0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0}));
  set_time({0x21, 0x00, 0x02, 0x28, 1, 0x23, 0x59, 0x59});
  go(seconds(1));
  EXPECT_EQ(time(), Bytes({0x21, 0x00, 0x03, 0x01, 2, 0, 0, 0}));
  set_time({0x99, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59});
  go(seconds(1));
  EXPECT_EQ(time(), Bytes({0x00, 0x00, 0x01, 0x01, 7, 0, 0, 0}));
}

TEST_F(RtcCmosTest, bytes_out_of_range_read_back_until_the_next_update) {
  const Bytes odd = {0xff, 0xff, 0x7f, 0x00, 0x00, 0x3f, 0xee, 0x7b};
  set_time(odd);
  EXPECT_EQ(time(), odd);
  go(seconds(1));
  // A second after 9999-12-01 23:59:59, a Wednesday.
  EXPECT_EQ(time(), Bytes({0x99, 0x99, 0x12, 0x02, 5, 0, 0, 0}));
}

TEST_F(RtcCmosTest, set_holds_the_clock_for_writing) {
  set(kB, 0x82);
  go(seconds(10));
  EXPECT_EQ(get(0), 0x20);
  set_time({0x20, 0x30, 0x01, 0x02, 4, 0x03, 0x04, 0x05});
  set(kB, 0x02);
  EXPECT_EQ(time(), Bytes({0x20, 0x30, 0x01, 0x02, 4, 0x03, 0x04, 0x05}));
  go(seconds(1));
  EXPECT_EQ(get(0), 0x06);
}

TEST_F(RtcCmosTest, set_ends_uie) {
  set(kB, 0x92);
  EXPECT_EQ(get(kB), 0x82);
}

TEST_F(RtcCmosTest, the_first_update_comes_half_a_second_after_the_divider_reset) {
  go(milliseconds(300));
  set(kA, 0x76);
  go(seconds(5));
  EXPECT_EQ(get(0), 0x20);
  EXPECT_EQ(get(kA), 0x76) << "no UIP";
  set(kA, 0x26);
  go(milliseconds(499));
  EXPECT_EQ(get(0), 0x20);
  go(milliseconds(1));
  EXPECT_EQ(get(0), 0x21);
  go(milliseconds(1000));
  EXPECT_EQ(get(0), 0x22);
}

TEST_F(RtcCmosTest, uip_is_set_in_the_244_microseconds_before_an_update) {
  go(microseconds(999'755));
  EXPECT_EQ(get(kA) & 0x80, 0);
  go(microseconds(5));
  EXPECT_EQ(get(kA) & 0x80, 0x80);
  EXPECT_EQ(get(0), 0x20);
  go(microseconds(240));
  EXPECT_EQ(get(kA) & 0x80, 0);
  EXPECT_EQ(get(0), 0x21);
  set(kB, 0x82);
  go(microseconds(999'900));
  EXPECT_EQ(get(kA) & 0x80, 0) << "SET holds updates back";
}

TEST_F(RtcCmosTest, uip_cannot_be_written) {
  set(kA, 0xa6);
  EXPECT_EQ(get(kA), 0x26);
}

TEST_F(RtcCmosTest, flags_are_set_without_interrupts_and_cleared_by_reading) {
  go(seconds(1));
  EXPECT_EQ(get(kC), 0x50) << "update and periodic, no IRQF";
  EXPECT_EQ(get(kC), 0x00);
  EXPECT_TRUE(irq.changes.empty());
  EXPECT_FALSE(rtc.next_deadline());
}

TEST_F(RtcCmosTest, update_interrupt_once_a_second) {
  set(kB, 0x12);
  EXPECT_EQ(rtc.next_deadline(), VmTime(seconds(1)));
  go(seconds(1));
  EXPECT_TRUE(line());
  EXPECT_FALSE(rtc.next_deadline()) << "until it is acknowledged";
  EXPECT_EQ(get(kC) & 0x90, 0x90);
  EXPECT_FALSE(line());
  EXPECT_EQ(serve(seconds(60)), 60);
}

TEST_F(RtcCmosTest, enabling_an_interrupt_with_its_flag_set_raises_the_line) {
  go(seconds(1));
  set(kB, 0x12);
  EXPECT_TRUE(line());
  set(kB, 0x02);
  EXPECT_FALSE(line());
}

TEST_F(RtcCmosTest, periodic_rates) {
  const struct {
    unsigned rs;
    int per_second;
  } kRates[] = {{1, 256}, {2, 128}, {3, 8192}, {4, 4096}, {6, 1024},
                {8, 256}, {9, 128}, {13, 8},   {15, 2},   {0, 0}};
  for (const auto& [rs, per_second] : kRates) {
    set(kB, 0x02);
    set(kA, 0x20 | rs);
    get(kC);
    set(kB, 0x42);
    EXPECT_EQ(serve(seconds(2)), 2 * per_second) << "RS " << rs;
  }
}

TEST_F(RtcCmosTest, periodic_interrupts_do_not_drift) {
  set(kA, 0x23);
  set(kB, 0x42);
  go(hours(24 * 365));
  EXPECT_EQ(irq.changes.size(), 1u) << "however late";
  get(kC);
  EXPECT_EQ(*rtc.next_deadline() - now, VmTime(122'071)) << "1/8192 s, rounded up";
}

TEST_F(RtcCmosTest, alarm_at_a_time_of_day) {
  set_alarm(0x22, 0x14, 0x00);
  set(kB, 0x22);
  EXPECT_EQ(rtc.next_deadline(), VmTime(seconds(40)));
  go(seconds(40));
  EXPECT_TRUE(line());
  EXPECT_EQ(alarms, 1);
  EXPECT_EQ(get(kC) & 0xa0, 0xa0);
  EXPECT_EQ(rtc.next_deadline(), VmTime(seconds(40) + hours(24)));
}

TEST_F(RtcCmosTest, an_alarm_of_dont_cares_comes_every_second) {
  set_alarm(0xc0, 0xff, 0xd7);
  set(kB, 0x22);
  EXPECT_EQ(serve(seconds(10)), 10);
  EXPECT_EQ(alarms, 10);
}

TEST_F(RtcCmosTest, alarm_once_an_hour) {
  set_alarm(0xc0, 0x13, 0x20);
  set(kB, 0x22);
  EXPECT_EQ(rtc.next_deadline(), VmTime(hours(1))) << "not now";
  EXPECT_EQ(serve(hours(24)), 24);
}

TEST_F(RtcCmosTest, alarm_in_12_hours_and_binary) {
  set(kB, 0x04);
  set_alarm(0x80 | 11, 0, 0);  // 11 PM
  set(kB, 0x24);
  EXPECT_EQ(rtc.next_deadline(), VmTime(seconds(46 * 60 + 40)));
}

TEST_F(RtcCmosTest, an_alarm_that_is_no_time_never_comes) {
  set_alarm(0x25, 0x00, 0x00);
  set(kB, 0x22);
  EXPECT_FALSE(rtc.next_deadline());
  set_alarm(0x22, 0x61, 0x00);
  EXPECT_FALSE(rtc.next_deadline());
  go(hours(48));
  EXPECT_EQ(alarms, 0);
}

TEST_F(RtcCmosTest, an_alarm_without_aie_sets_its_flag_alone) {
  set_alarm(0xc0, 0xc0, 0xc0);
  go(seconds(1));
  EXPECT_EQ(get(kC) & 0xa0, 0x20);
  EXPECT_EQ(alarms, 0);
}

TEST_F(RtcCmosTest, an_alarm_that_was_slept_through_strikes_once) {
  set_alarm(0x22, 0x14, 0x00);
  set(kB, 0x22);
  go(hours(24 * 30));
  EXPECT_EQ(alarms, 1);
  EXPECT_TRUE(line());
}

TEST_F(RtcCmosTest, memory_sizes_as_firmware_reads_them) {
  rtc.set_memory_size(0xc0000000, 0x40000000);
  EXPECT_EQ(get(0x15) | get(0x16) << 8, 640);
  EXPECT_EQ(get(0x17) | get(0x18) << 8, 0xffff);
  EXPECT_EQ(get(0x30) | get(0x31) << 8, 0xffff);
  EXPECT_EQ(get(0x34) | get(0x35) << 8, 0xbf00);
  EXPECT_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 0x4000);
  rtc.set_memory_size(8 << 20, 0);
  EXPECT_EQ(get(0x30) | get(0x31) << 8, 7 * 1024);
  EXPECT_EQ(get(0x34) | get(0x35) << 8, 0);
  EXPECT_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 0);
}

TEST_F(RtcCmosTest, what_the_board_set_survives_a_reset_and_what_the_guest_wrote_does_not) {
  rtc.set_memory_size(64 << 20, 0);
  rtc.set_cpu_count(4);
  set(0x40, 0x55);
  set(0x5f, 0x77);
  go(seconds(7));
  rtc.reset();
  EXPECT_EQ(get(0x5f), 3);
  EXPECT_EQ(get(0x34), 0x00);
  EXPECT_EQ(get(0x35), 0x03);
  EXPECT_EQ(get(0x40), 0);
  rtc.advance(now + seconds(1));
  EXPECT_EQ(get(0), 0x28) << "the time is that of the host";
}

TEST_F(RtcCmosTest, ram_has_128_bytes_behind_7_bits_of_index) {
  for (unsigned i = 0x0e; i < 0x80; ++i)
    if (i != 0x32) set(i, i ^ 0x5a);
  for (unsigned i = 0x0e; i < 0x80; ++i) {
    if (i != 0x32) {
      EXPECT_EQ(get(0x80 | i), static_cast<int>(i ^ 0x5a));
    }
  }
  EXPECT_TRUE(rtc.nmi_masked());
  get(0x0e);
  EXPECT_FALSE(rtc.nmi_masked());
}

TEST_F(RtcCmosTest, c_and_d_cannot_be_written) {
  set(kC, 0xff);
  set(0x0d, 0x00);
  EXPECT_EQ(get(kC), 0);
  EXPECT_EQ(get(0x0d), 0x80);
}

TEST_F(RtcCmosTest, port_70h_is_not_read) {
  std::array<std::uint8_t, 2> data{};
  EXPECT_EQ(rtc.read(0, std::span(data).first(1)), Access::NoRegister);
  EXPECT_EQ(rtc.read(1, data), Access::BadWidth);
  EXPECT_EQ(rtc.write(2, std::span(data).first(1)), Access::NoRegister);
}

TEST_F(RtcCmosTest, loading_brings_the_line_the_time_and_the_deadline_back) {
  set(kB, 0x72);
  set_alarm(0xc0, 0xc0, 0x00);
  go(milliseconds(2500));
  EXPECT_TRUE(line());
  RecordingIrq other_irq;
  IrqPins other_pins(other_irq, 9);
  RtcCmos other("rtc", other_pins.line(8), 0);
  ASSERT_TRUE(load_state(other, save_state(rtc)).has_value());
  EXPECT_TRUE(other_irq.changes.empty());
  EXPECT_EQ(other.next_deadline(), rtc.next_deadline());
  out(other, 0, 9);
  EXPECT_EQ(in(other, 1), 0x23);
  out(other, 0, kC);
  EXPECT_NE(in(other, 1), 0);
  EXPECT_EQ(other_irq.changes, (std::vector<std::pair<unsigned, bool>>{{8, false}}));
}

TEST_F(RtcCmosTest, the_end_of_time_is_survived) {
  set(kA, 0x23);
  set(kB, 0x72);
  set_alarm(0xc0, 0xc0, 0xc0);
  rtc.advance(VmTime::max());
  get(kC);
  get(0);
  EXPECT_TRUE(rtc.next_deadline());
}

// Next alarm against a plain search.
TEST_F(RtcCmosTest, the_next_alarm_is_the_first_second_that_matches) {
  const unsigned hours_of[] = {0, 7, 22, 23, 0xff};
  const unsigned minutes_of[] = {0, 13, 14, 59, 0xc0};
  const unsigned seconds_of[] = {0, 19, 20, 21, 59, 0xc3};
  const RtcFormat binary{.binary = true, .hours24 = true};
  RtcRam ram{};
  for (const std::int64_t start :
       {kStart, kStart - kStart % kRtcDay, kStart - kStart % kRtcDay - 1})
    for (const unsigned h : hours_of)
      for (const unsigned m : minutes_of)
        for (const unsigned s : seconds_of) {
          rtc_put(ram, binary, start);
          ram[5] = static_cast<std::uint8_t>(h);
          ram[3] = static_cast<std::uint8_t>(m);
          ram[1] = static_cast<std::uint8_t>(s);
          std::int64_t expected = 1;
          const auto matches = [&](std::int64_t at) {
            return (h >= 0xc0 || at / 3600 % 24 == h) && (m >= 0xc0 || at / 60 % 60 == m) &&
                   (s >= 0xc0 || at % 60 == s);
          };
          while (!matches(start + expected)) ++expected;
          EXPECT_EQ(rtc_seconds_to_alarm(ram, binary), expected) << h << ":" << m << ":" << s;
        }
}

// Moments all over four centuries, in each format.
TEST_F(RtcCmosTest, every_format_gives_back_what_was_put) {
  for (const RtcFormat format : {RtcFormat{false, false}, RtcFormat{false, true},
                                 RtcFormat{true, false}, RtcFormat{true, true}}) {
    RtcRam ram{};
    for (std::int64_t time = 0; time < 146'097 * kRtcDay; time += kRtcDay * 13 + 3601 * 7 + 59) {
      rtc_put(ram, format, time);
      ASSERT_EQ(rtc_get(ram, format), time);
    }
  }
}

}  // namespace
}  // namespace vmm
