#include "vmm/core/irq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <type_traits>
#include <utility>

#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Lines : public testing::Test {
 protected:
  RecordingIrq irq_;
  IrqPins pins_{irq_, 24};
};

TEST_F(Lines, a_change_reaches_the_pin_once) {
  IrqLine line = pins_.line(4);
  line.set(true);
  line.set(true);
  EXPECT_TRUE(line.level());
  line.set(false);
  line.set(false);
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(4u, true), std::pair(4u, false)));
}

TEST_F(Lines, a_pin_is_high_while_a_line_that_was_restored_is) {
  IrqLine restored = pins_.line(3);
  EXPECT_FALSE(pins_.level(3));
  restored.restore_level(true);
  EXPECT_TRUE(pins_.level(3));
  restored.set(false);
  EXPECT_FALSE(pins_.level(3));
}

TEST_F(Lines, a_pulse_is_one_edge_up_and_down) {
  IrqLine line = pins_.line(0);
  line.pulse();
  line.pulse();
  EXPECT_FALSE(line.level());
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(0u, true), std::pair(0u, false),
                                        std::pair(0u, true), std::pair(0u, false)));
}

TEST_F(Lines, a_shared_pin_is_high_while_any_line_is) {
  IrqLine first = pins_.line(9), second = pins_.line(9);
  first.set(true);
  second.set(true);
  first.set(false);
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(9u, true)));
  second.set(false);
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(9u, true), std::pair(9u, false)));
}

TEST_F(Lines, a_pulse_on_a_pin_that_is_held_high_makes_no_edge) {
  IrqLine holder = pins_.line(9), pulser = pins_.line(9);
  holder.set(true);
  pulser.pulse();
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(9u, true)));
}

TEST_F(Lines, different_pins_do_not_meet) {
  IrqLine first = pins_.line(3), second = pins_.line(4);
  first.set(true);
  second.set(true);
  first.set(false);
  EXPECT_THAT(irq_.changes,
              ElementsAre(std::pair(3u, true), std::pair(4u, true), std::pair(3u, false)));
}

TEST_F(Lines, a_detached_line_keeps_its_level_and_tells_no_one) {
  IrqLine line;
  line.set(true);
  EXPECT_TRUE(line.level());
  line.pulse();
  line.restore_level(true);
  EXPECT_TRUE(line.level());
}

TEST_F(Lines, restoring_makes_no_edge_but_counts) {
  IrqLine first = pins_.line(5), second = pins_.line(5);
  first.restore_level(true);
  EXPECT_TRUE(first.level());
  EXPECT_THAT(irq_.changes, IsEmpty());
  second.pulse();
  EXPECT_THAT(irq_.changes, IsEmpty());
  first.set(false);
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(5u, false)));
}

TEST_F(Lines, restoring_twice_counts_once) {
  IrqLine line = pins_.line(5);
  line.restore_level(true);
  line.restore_level(true);
  line.restore_level(false);
  line.set(true);
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(5u, true)));
}

// A copy of a high line used to lower the shared pin a second time, which took the count below
// zero and left the pin high for ever.
static_assert(!std::is_copy_constructible_v<IrqLine> && !std::is_copy_assignable_v<IrqLine>);

TEST_F(Lines, moving_a_high_line_takes_its_level_along) {
  IrqLine first = pins_.line(6);
  first.set(true);
  IrqLine second = std::move(first);
  EXPECT_TRUE(second.level());
  IrqLine third;
  third = std::move(second);
  third.set(false);
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(6u, true), std::pair(6u, false)));
  IrqLine fresh = pins_.line(6);
  fresh.set(true);
  EXPECT_EQ(irq_.changes.size(), 3u);
}

TEST_F(Lines, lines_may_outlive_their_pins) {
  IrqLine line;
  {
    IrqPins short_lived(irq_, 1);
    line = short_lived.line(0);
  }
  line.set(true);
  EXPECT_THAT(irq_.changes, ElementsAre(std::pair(0u, true)));
}

TEST(LinesDeathTest, a_pin_that_does_not_exist_is_a_check) {
  RecordingIrq irq;
  IrqPins pins(irq, 24);
  EXPECT_DEATH(pins.line(24), "no such interrupt pin");
}

}  // namespace
}  // namespace vmm
