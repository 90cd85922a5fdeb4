#include "devices/debug_exit.h"

#include <gtest/gtest.h>

#include <vector>

namespace vmm {
namespace {

TEST(DebugExit, hands_on_the_value_in_each_width) {
  std::vector<std::uint64_t> values;
  DebugExit port("debug-exit", [&](std::uint64_t value) { values.push_back(value); });
  const std::uint8_t data[] = {0x78, 0x56, 0x34, 0x12};
  for (const std::size_t width : {1u, 2u, 4u})
    EXPECT_EQ(port.write(0, std::span(data).first(width)), Access::Ok);
  EXPECT_EQ(values, (std::vector<std::uint64_t>{0x78, 0x5678, 0x12345678}));
  EXPECT_EQ(port.state().value, 0x12345678u);
}

TEST(DebugExit, reads_zero) {
  DebugExit port("debug-exit", nullptr);
  std::uint8_t data[] = {0xff, 0xff, 0xff, 0xff};
  EXPECT_EQ(port.read(0, data), Access::Ok);
  EXPECT_EQ(data[0] | data[1] | data[2] | data[3], 0);
}

TEST(DebugExit, refuses_what_reaches_beyond_its_ports) {
  bool called = false;
  DebugExit port("debug-exit", [&](std::uint64_t) { called = true; });
  const std::uint8_t data[8] = {};
  EXPECT_EQ(port.write(0, data), Access::BadWidth);
  EXPECT_EQ(port.write(3, std::span(data).first(2)), Access::BadWidth);
  EXPECT_EQ(port.write(4, std::span(data).first(1)), Access::NoRegister);
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace vmm
