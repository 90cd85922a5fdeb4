#include "devices/bochs_shutdown.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"

namespace vmm {
namespace {

class BochsShutdownTest : public testing::Test {
 protected:
  int power_offs = 0;
  BochsShutdownPort bochs{"bochs-shutdown", [this] { ++power_offs; }};

  void say(std::string_view text) {
    for (const char c : text) out(bochs, 0, static_cast<unsigned char>(c));
  }
};

TEST_F(BochsShutdownTest, wants_the_whole_word) {
  say("Shutdow");
  EXPECT_EQ(power_offs, 0);
  say("n");
  EXPECT_EQ(power_offs, 1);
  say("Shutdown");
  EXPECT_EQ(power_offs, 2);
}

TEST_F(BochsShutdownTest, starts_over_after_a_wrong_letter) {
  say("Shutxdown");
  say("hutdown");
  EXPECT_EQ(power_offs, 0);
  say("ShShutdown");
  EXPECT_EQ(power_offs, 1);
}

TEST_F(BochsShutdownTest, cannot_be_read) {
  std::uint8_t data[] = {0x77};
  EXPECT_EQ(bochs.read(0, data), Access::NoRegister);
  EXPECT_EQ(data[0], 0x77);
}

TEST_F(BochsShutdownTest, a_hostile_saved_position_is_not_followed) {
  StateBlock saved = save_state(bochs);
  saved.fields[0].second = "0xff";
  EXPECT_TRUE(load_state(bochs, saved).has_value());
  say("Shutdown");
  EXPECT_EQ(power_offs, 1);
}

}  // namespace
}  // namespace vmm
