#include "vmm/machine/saved_state.h"

#include <gmock/gmock.h>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

MachineState some_state() {
  return {
      {{"pit", {"pit8254", 1, {{"now", "0x1"}}}}, {"rtc", {"rtc_cmos", 1, {{"index", "0x2"}}}}}};
}

TEST(SavedState, a_difference_names_its_block_and_its_field) {
  const MachineState before = some_state();
  EXPECT_THAT(diff(before, before), IsEmpty());
  MachineState after = before;
  after.blocks[1].second.fields[0].second = "0x3";
  EXPECT_THAT(diff(before, after), ElementsAre("rtc.index: 0x2 -> 0x3"));
  after.blocks[0].first = "hpet";
  EXPECT_THAT(diff(before, after), ElementsAre("pit: gone", "rtc.index: 0x2 -> 0x3", "hpet: new"));
}

TEST(SavedState, prints_every_block) {
  EXPECT_EQ(some_state().print(),
            "pit: pit8254 v1\n  now = 0x1\nrtc: rtc_cmos v1\n  index = 0x2\n");
}

TEST(SavedState, rates_within_250_ppm_are_one) {
  EXPECT_TRUE(same_tsc_rate(2'000'000, 2'000'000));
  EXPECT_TRUE(same_tsc_rate(2'000'500, 2'000'000));
  EXPECT_TRUE(same_tsc_rate(1'999'500, 2'000'000));
  EXPECT_FALSE(same_tsc_rate(2'000'501, 2'000'000));
  EXPECT_FALSE(same_tsc_rate(1'999'499, 2'000'000));
}

class LapicPage : public testing::Test {
 protected:
  // Vector 43h: bit 3 of the word at 220h.
  void set(std::uint32_t count, bool requested) {
    store(std::span(page_), 0x320, std::uint32_t{0x20043});
    store(std::span(page_), 0x390, count);
    store(std::span(page_), 0x220, std::uint32_t{requested ? 0x88u : 0x80u});
  }
  std::uint32_t count() const { return load<std::uint32_t>(page_, 0x390); }
  std::uint32_t requests() const { return load<std::uint32_t>(page_, 0x220); }
  std::array<std::uint8_t, VcpuState::kLapicPage> page_{};
};

TEST_F(LapicPage, a_timer_that_ran_during_the_pause_goes_on_where_it_was) {
  VcpuTime time;
  set(1000, false);
  time.read_page(page_);
  set(10, true);
  time.put_into(page_);
  EXPECT_EQ(count(), 1000u);
  EXPECT_EQ(requests(), 0x80u) << "its interrupt is taken back, another's is not";
}

TEST_F(LapicPage, an_interrupt_from_before_the_pause_stays) {
  VcpuTime time;
  set(1000, true);
  time.read_page(page_);
  set(10, true);
  time.put_into(page_);
  EXPECT_EQ(requests(), 0x88u);
}

TEST_F(LapicPage, a_timer_that_had_run_out_is_left_alone) {
  VcpuTime time;
  set(0, false);
  time.read_page(page_);
  set(0, true);
  time.put_into(page_);
  EXPECT_EQ(requests(), 0x88u);
}

}  // namespace
}  // namespace vmm
