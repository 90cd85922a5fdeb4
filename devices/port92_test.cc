#include "devices/port92.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"

namespace vmm {
namespace {

TEST(Port92, a20_is_open_and_reads_back) {
  Port92 port("port92", nullptr);
  EXPECT_EQ(in(port, 0), 0x02);
  out(port, 0, 0x00);
  EXPECT_EQ(in(port, 0), 0x00);
  out(port, 0, 0xfe);
  EXPECT_EQ(in(port, 0), 0x02);
}

TEST(Port92, opening_a20_the_usual_way_does_not_reset) {
  int resets = 0;
  Port92 port("port92", [&] { ++resets; });
  out(port, 0, in(port, 0) | 0x02);
  EXPECT_EQ(resets, 0);
}

TEST(Port92, bit_0_resets_on_its_rising_edge) {
  int resets = 0;
  Port92 port("port92", [&] { ++resets; });
  out(port, 0, 0x01);
  out(port, 0, 0x01);
  EXPECT_EQ(resets, 1);
  out(port, 0, 0x00);
  out(port, 0, 0x03);
  EXPECT_EQ(resets, 2);
}

}  // namespace
}  // namespace vmm
