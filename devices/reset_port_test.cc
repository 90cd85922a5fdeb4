#include "devices/reset_port.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"

namespace vmm {
namespace {

class ResetPortTest : public testing::Test {
 protected:
  int resets = 0;
  ResetPort port{"rst-cnt", [this] { ++resets; }};
};

TEST_F(ResetPortTest, the_usual_two_writes_reset_once) {
  out(port, 0, 0x02);
  EXPECT_EQ(resets, 0);
  out(port, 0, 0x06);
  EXPECT_EQ(resets, 1);
}

TEST_F(ResetPortTest, one_write_is_enough) {
  out(port, 0, 0x0e);
  EXPECT_EQ(resets, 1);
}

TEST_F(ResetPortTest, only_the_rising_edge_of_rst_cpu_counts) {
  out(port, 0, 0x06);
  out(port, 0, 0x06);
  EXPECT_EQ(resets, 1);
  out(port, 0, 0x02);
  out(port, 0, 0x04);
  EXPECT_EQ(resets, 2);
}

TEST_F(ResetPortTest, the_kind_of_reset_reads_back) {
  out(port, 0, 0xfa);
  EXPECT_EQ(in(port, 0), 0x0a);
  EXPECT_EQ(resets, 0);
}

}  // namespace
}  // namespace vmm
