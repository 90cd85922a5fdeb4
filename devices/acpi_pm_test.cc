#include "devices/acpi_pm.h"

#include <gtest/gtest.h>

#include <limits>

#include "devices/port_access.h"
#include "vmm/base/bytes.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSts = 0;
constexpr std::uint64_t kEn = 2;
constexpr std::uint64_t kCnt = 4;
constexpr std::uint64_t kTmr = 8;

// The first nanosecond with 2^31 ticks: 2^31 / 3579545 s = 599.932016 s.
constexpr VmTime kToggle{599'932'015'941};

class AcpiPmTest : public testing::Test {
 protected:
  RecordingIrq irq;
  IrqPins pins{irq, 16};
  int power_offs = 0;
  int suspends = 0;
  AcpiPm pm{"acpi-pm", pins.line(9), {[this] { ++power_offs; }, [this] { ++suspends; }}};

  template <typename T>
  void write(std::uint64_t offset, T value) {
    std::array<std::uint8_t, sizeof(T)> data;
    store(data, 0, value);
    EXPECT_EQ(pm.write(offset, data), Access::Ok) << offset;
  }
  template <typename T>
  T read(std::uint64_t offset) {
    std::array<std::uint8_t, sizeof(T)> data{};
    EXPECT_EQ(pm.read(offset, data), Access::Ok) << offset;
    return load<T>(data);
  }
  void outw(std::uint64_t offset, unsigned value) {
    write(offset, static_cast<std::uint16_t>(value));
  }
  unsigned inw(std::uint64_t offset) { return read<std::uint16_t>(offset); }
  bool sci() const { return !irq.changes.empty() && irq.changes.back().second; }
};

// 4.8.3.2.1: the control block.

TEST_F(AcpiPmTest, sleep_type_0_powers_off) {
  outw(kCnt, 0x2000);
  EXPECT_EQ(power_offs, 1);
  EXPECT_EQ(suspends, 0);
}

TEST_F(AcpiPmTest, sleep_type_1_suspends) {
  outw(kCnt, 0x2401);
  EXPECT_EQ(suspends, 1);
  EXPECT_EQ(power_offs, 0);
}

TEST_F(AcpiPmTest, sci_en_beside_slp_en_does_not_matter) {
  outw(kCnt, 0x2001);
  EXPECT_EQ(power_offs, 1);
}

TEST_F(AcpiPmTest, other_sleep_types_and_a_type_without_slp_en_do_nothing) {
  for (const unsigned type : {2u, 3u, 4u, 5u, 6u, 7u}) outw(kCnt, 0x2001 | type << 10);
  outw(kCnt, 0x0401);
  outw(kCnt, 0x0001);
  EXPECT_EQ(power_offs, 0);
  EXPECT_EQ(suspends, 0);
}

TEST_F(AcpiPmTest, the_high_byte_alone_is_enough) {
  out(pm, kCnt + 1, 0x20);
  EXPECT_EQ(power_offs, 1);
  out(pm, kCnt + 1, 0x24);
  EXPECT_EQ(suspends, 1);
}

TEST_F(AcpiPmTest, the_low_byte_never_repeats_slp_en) {
  outw(kCnt, 0x2400);
  out(pm, kCnt + 1, 0x00);
  out(pm, kCnt, 0x00);
  EXPECT_EQ(power_offs, 0);
  EXPECT_EQ(suspends, 1);
}

TEST_F(AcpiPmTest, a_dword_counts_by_its_low_word) {
  write<std::uint32_t>(kCnt, 0xffff2000);
  EXPECT_EQ(power_offs, 1);
  EXPECT_EQ(read<std::uint32_t>(kCnt), 0u);
}

TEST_F(AcpiPmTest, control_reads_back_without_the_write_only_bits) {
  EXPECT_EQ(inw(kCnt), 0x0001u) << "ACPI mode from power-on";
  outw(kCnt, 0xffff & ~0x2000);
  EXPECT_EQ(inw(kCnt), 0x1c03u) << "GBL_RLS and reserved bits are not kept";
}

TEST_F(AcpiPmTest, calls_may_be_absent) {
  AcpiPm alone("acpi-pm", IrqLine(), {});
  out(alone, kCnt + 1, 0x20);
  out(alone, kCnt + 1, 0x24);
}

// 4.8.3.1: the event block.

TEST_F(AcpiPmTest, status_bits_are_cleared_by_writing_ones) {
  pm.rtc_alarm();
  pm.press_power_button();
  EXPECT_EQ(inw(kSts), 0x0500u);
  outw(kSts, 0x0000);
  EXPECT_EQ(inw(kSts), 0x0500u);
  outw(kSts, 0x0400);
  EXPECT_EQ(inw(kSts), 0x0100u);
  out(pm, kSts, 0xff);
  EXPECT_EQ(inw(kSts), 0x0100u) << "the low byte does not reach it";
  out(pm, kSts + 1, 0x01);
  EXPECT_EQ(inw(kSts), 0u);
}

TEST_F(AcpiPmTest, enable_keeps_the_bits_that_exist) {
  outw(kEn, 0xffff);
  EXPECT_EQ(inw(kEn), 0x0521u);
  out(pm, kEn, 0);
  EXPECT_EQ(inw(kEn), 0x0500u);
}

TEST_F(AcpiPmTest, a_dword_reaches_status_and_enable_at_once) {
  pm.rtc_alarm();
  EXPECT_EQ(read<std::uint32_t>(kSts), 0x0000'0400u);
  write<std::uint32_t>(kSts, 0x0100'0400);
  EXPECT_EQ(read<std::uint32_t>(kSts), 0x0100'0000u);
}

TEST_F(AcpiPmTest, sci_is_high_while_an_enabled_status_bit_is_set) {
  pm.rtc_alarm();
  EXPECT_TRUE(irq.changes.empty());
  outw(kEn, 0x0400);
  EXPECT_TRUE(sci());
  EXPECT_EQ(irq.changes.back().first, 9u);
  outw(kSts, 0x0400);
  EXPECT_FALSE(sci());
  pm.press_power_button();
  EXPECT_FALSE(sci());
  pm.rtc_alarm();
  EXPECT_TRUE(sci());
  outw(kEn, 0);
  EXPECT_FALSE(sci());
}

TEST_F(AcpiPmTest, sci_needs_sci_en) {
  outw(kEn, 0x0100);
  outw(kCnt, 0x0000);
  pm.press_power_button();
  EXPECT_TRUE(irq.changes.empty());
  outw(kCnt, 0x0001);
  EXPECT_TRUE(sci());
  outw(kCnt, 0x0000);
  EXPECT_FALSE(sci());
}

TEST_F(AcpiPmTest, the_alarm_wakes_when_it_is_enabled) {
  pm.rtc_alarm();
  EXPECT_FALSE(pm.wake_requested());
  outw(kEn, 0x0400);
  EXPECT_TRUE(pm.wake_requested());
  outw(kSts, 0x0400);
  EXPECT_FALSE(pm.wake_requested());
}

TEST_F(AcpiPmTest, the_power_button_wakes_without_being_enabled) {
  pm.press_power_button();
  EXPECT_TRUE(pm.wake_requested());
}

TEST_F(AcpiPmTest, other_events_do_not_wake) {
  outw(kEn, 0xffff);
  pm.advance(0ns);
  pm.advance(kToggle);
  pm.woken();
  EXPECT_EQ(inw(kSts), 0x8001u);
  EXPECT_FALSE(pm.wake_requested());
}

TEST_F(AcpiPmTest, waking_sets_wak_sts_and_acpi_mode_and_raises_nothing) {
  outw(kCnt, 0x2400);  // as kernels write it that do not care for SCI_EN
  EXPECT_EQ(inw(kCnt), 0x0400u);
  pm.woken();
  EXPECT_EQ(inw(kSts), 0x8000u);
  EXPECT_EQ(inw(kCnt), 0x0401u);
  EXPECT_FALSE(sci());
  outw(kSts, 0x8000);
  EXPECT_EQ(inw(kSts), 0u);
}

// 4.8.3.3: the timer.

TEST_F(AcpiPmTest, the_timer_counts_3579545_a_second) {
  EXPECT_EQ(read<std::uint32_t>(kTmr), 0u);
  pm.advance(1s);
  EXPECT_EQ(read<std::uint32_t>(kTmr), 3'579'545u);
  pm.advance(1s + 279ns);  // a tick is 279.36 ns
  EXPECT_EQ(read<std::uint32_t>(kTmr), 3'579'545u);
  pm.advance(1s + 280ns);
  EXPECT_EQ(read<std::uint32_t>(kTmr), 3'579'546u);
}

TEST_F(AcpiPmTest, the_timer_is_exact_after_a_century) {
  constexpr std::uint64_t kSeconds = 100ULL * 365 * 86400;
  pm.advance(std::chrono::seconds(kSeconds));
  EXPECT_EQ(read<std::uint32_t>(kTmr), static_cast<std::uint32_t>(kSeconds * 3'579'545));
}

TEST_F(AcpiPmTest, the_timer_has_32_bits_and_is_read_only) {
  pm.advance(0ns);
  pm.advance(2 * kToggle - 1us);
  EXPECT_GT(read<std::uint32_t>(kTmr), 0xffff'fff0u);
  const auto before = read<std::uint32_t>(kTmr);
  write<std::uint32_t>(kTmr, 0);
  EXPECT_EQ(read<std::uint32_t>(kTmr), before);
  EXPECT_EQ(in(pm, kTmr + 3), 0xff);
  EXPECT_EQ(inw(kTmr + 2), 0xffffu);
  pm.advance(2 * kToggle);
  EXPECT_EQ(read<std::uint32_t>(kTmr), 0u);
}

TEST_F(AcpiPmTest, tmr_sts_is_set_at_each_change_of_bit_31) {
  pm.advance(0ns);
  pm.advance(kToggle - 1ns);
  EXPECT_EQ(inw(kSts), 0u);
  pm.advance(kToggle);
  EXPECT_EQ(inw(kSts), 0x0001u);
  EXPECT_EQ(read<std::uint32_t>(kTmr), 0x8000'0000u);
  outw(kSts, 1);
  pm.advance(kToggle + 1s);
  EXPECT_EQ(inw(kSts), 0u);
  pm.advance(2 * kToggle);
  EXPECT_EQ(inw(kSts), 0x0001u) << "and when it falls";
}

TEST_F(AcpiPmTest, the_timer_asks_for_time_only_while_its_event_is_enabled) {
  pm.advance(5s);
  EXPECT_EQ(pm.next_deadline(), std::nullopt);
  outw(kEn, 1);
  ASSERT_EQ(pm.next_deadline(), kToggle);
  pm.advance(kToggle);
  EXPECT_TRUE(sci());
  EXPECT_EQ(pm.next_deadline(), std::nullopt) << "until TMR_STS is cleared";
  outw(kSts, 1);
  EXPECT_FALSE(sci());
  EXPECT_EQ(pm.next_deadline(), VmTime(1'199'864'031'882));
}

TEST_F(AcpiPmTest, reset_lets_the_timer_run_and_raises_no_event_for_the_past) {
  pm.advance(kToggle + 1s);
  outw(kEn, 1);
  pm.reset();
  EXPECT_FALSE(sci());
  pm.advance(kToggle + 2s);
  EXPECT_EQ(inw(kSts), 0u);
  EXPECT_GT(read<std::uint32_t>(kTmr), 0x8000'0000u);
}

TEST_F(AcpiPmTest, the_end_of_time_is_no_deadline) {
  constexpr VmTime kEnd{std::numeric_limits<VmTime::rep>::max()};
  pm.advance(kEnd);
  outw(kEn, 1);
  outw(kSts, 1);
  EXPECT_EQ(pm.next_deadline(), std::nullopt);
}

TEST_F(AcpiPmTest, a_restored_interrupt_is_high_without_an_edge) {
  outw(kEn, 0x0400);
  pm.rtc_alarm();
  const StateBlock saved = save_state(pm);
  RecordingIrq other_irq;
  IrqPins other_pins(other_irq, 16);
  AcpiPm other("acpi-pm", other_pins.line(9), {});
  ASSERT_TRUE(load_state(other, saved).has_value());
  EXPECT_TRUE(other_irq.changes.empty());
  out(other, kSts + 1, 0x04);
  ASSERT_EQ(other_irq.changes.size(), 1u);
  EXPECT_FALSE(other_irq.changes[0].second);
}

TEST_F(AcpiPmTest, accesses_stay_within_four_bytes) {
  std::array<std::uint8_t, 8> data{};
  EXPECT_EQ(pm.read(2, std::span(data).first(4)), Access::BadWidth);
  EXPECT_EQ(pm.write(3, std::span(data).first(2)), Access::BadWidth);
  EXPECT_EQ(pm.read(0, data), Access::BadWidth);
  EXPECT_EQ(pm.read(12, std::span(data).first(1)), Access::NoRegister);
}

}  // namespace
}  // namespace vmm
