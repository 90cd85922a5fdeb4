#include "vmm/lab/tsc_rate.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

// Two measurements of one clock: on a machine that is busy with other things they may differ.
TEST(TscRate, is_that_of_a_processor_and_nearly_the_same_twice) {
  const double first = measure_tsc_khz(), second = measure_tsc_khz();
  EXPECT_GT(first, 100'000);     // 100 MHz
  EXPECT_LT(first, 10'000'000);  // 10 GHz
  EXPECT_NEAR(second / first, 1, 0.1);
}

}  // namespace
}  // namespace vmm
