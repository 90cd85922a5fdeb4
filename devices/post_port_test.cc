#include "devices/post_port.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"

namespace vmm {
namespace {

TEST(PostPort, keeps_the_last_code) {
  PostPort port("post");
  EXPECT_EQ(in(port, 0), 0x00);
  out(port, 0, 0x5a);
  EXPECT_EQ(in(port, 0), 0x5a);
  port.reset();
  EXPECT_EQ(in(port, 0), 0x00);
}

TEST(PostPort, is_one_byte_wide) {
  PostPort port("post");
  std::array<std::uint8_t, 2> word{};
  EXPECT_EQ(port.read(0, word), Access::BadWidth);
  EXPECT_EQ(port.write(0, word), Access::BadWidth);
  EXPECT_EQ(port.read(1, std::span(word).first(1)), Access::NoRegister);
}

}  // namespace
}  // namespace vmm
