#include "devices/shutdown_port.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"

namespace vmm {
namespace {

class ShutdownPortTest : public testing::Test {
 protected:
  int power_offs = 0;
  ShutdownPort port{"pm1a", [this] { ++power_offs; }};
  BochsShutdownPort bochs{"bochs-shutdown", [this] { ++power_offs; }};

  void outw(unsigned value) {
    const std::uint8_t data[] = {static_cast<std::uint8_t>(value),
                                 static_cast<std::uint8_t>(value >> 8)};
    EXPECT_EQ(port.write(0, data), Access::Ok);
  }
  void say(std::string_view text) {
    for (const char c : text) out(bochs, 0, static_cast<unsigned char>(c));
  }
};

TEST_F(ShutdownPortTest, slp_en_powers_off) {
  outw(0x2000);
  EXPECT_EQ(power_offs, 1);
}

TEST_F(ShutdownPortTest, sci_en_beside_slp_en_does_not_matter) {
  outw(0x2001);
  EXPECT_EQ(power_offs, 1);
}

TEST_F(ShutdownPortTest, other_sleep_types_do_nothing) {
  outw(0x2400);  // S3 on QEMU's board
  outw(0x3400);
  outw(0x0001);
  EXPECT_EQ(power_offs, 0);
}

TEST_F(ShutdownPortTest, the_high_byte_alone_is_enough) {
  out(port, 1, 0x20);
  EXPECT_EQ(power_offs, 1);
}

TEST_F(ShutdownPortTest, the_low_byte_never_repeats_slp_en) {
  outw(0x2400);
  out(port, 1, 0x00);
  out(port, 0, 0x00);
  EXPECT_EQ(power_offs, 0);
}

TEST_F(ShutdownPortTest, a_dword_counts_by_its_low_word) {
  const std::uint8_t data[] = {0x00, 0x20, 0xff, 0xff};
  EXPECT_EQ(port.write(0, data), Access::Ok);
  EXPECT_EQ(power_offs, 1);
}

TEST_F(ShutdownPortTest, reads_zero) {
  outw(0x0401);
  EXPECT_EQ(in(port, 0), 0);
  EXPECT_EQ(in(port, 1), 0);
}

TEST_F(ShutdownPortTest, bochs_wants_the_whole_word) {
  say("Shutdow");
  EXPECT_EQ(power_offs, 0);
  say("n");
  EXPECT_EQ(power_offs, 1);
  say("Shutdown");
  EXPECT_EQ(power_offs, 2);
}

TEST_F(ShutdownPortTest, bochs_starts_over_after_a_wrong_letter) {
  say("Shutxdown");
  say("hutdown");
  EXPECT_EQ(power_offs, 0);
  say("ShShutdown");
  EXPECT_EQ(power_offs, 1);
}

TEST_F(ShutdownPortTest, bochs_port_cannot_be_read) {
  std::uint8_t data[] = {0x77};
  EXPECT_EQ(bochs.read(0, data), Access::NoRegister);
  EXPECT_EQ(data[0], 0x77);
}

TEST_F(ShutdownPortTest, a_hostile_saved_position_is_not_followed) {
  StateBlock saved = save_state(bochs);
  saved.fields[0].second = "0xff";
  EXPECT_TRUE(load_state(bochs, saved).has_value());
  say("Shutdown");
  EXPECT_EQ(power_offs, 1);
}

}  // namespace
}  // namespace vmm
