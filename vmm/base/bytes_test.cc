#include "vmm/base/bytes.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace vmm {
namespace {

TEST(Bytes, are_little_endian) {
  const std::array<std::uint8_t, 8> raw = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08};
  EXPECT_EQ(load<std::uint16_t>(raw), 0x0201);
  EXPECT_EQ(load<std::uint32_t>(raw, 4), 0x08070605u);
  EXPECT_EQ(load<std::uint64_t>(raw), 0x0807060504030201u);
  EXPECT_EQ(load_uint(std::span(raw).first(3)), 0x030201u);
  EXPECT_EQ(load_uint({}), 0u);
}

TEST(Bytes, store_touches_its_own_bytes_only) {
  std::array<std::uint8_t, 6> raw = {9, 9, 9, 9, 9, 9};
  store<std::uint32_t>(raw, 1, 0x44332211);
  EXPECT_EQ(raw, (std::array<std::uint8_t, 6>{9, 0x11, 0x22, 0x33, 0x44, 9}));
  store_uint(std::span(raw).subspan(4, 2), 0xffff'aabb);
  EXPECT_EQ(raw, (std::array<std::uint8_t, 6>{9, 0x11, 0x22, 0x33, 0xbb, 0xaa}));
}

TEST(Bytes, fill_ones_is_what_an_open_bus_reads) {
  std::array<std::uint8_t, 3> raw{};
  fill_ones(std::span(raw).first(2));
  EXPECT_EQ(raw, (std::array<std::uint8_t, 3>{0xff, 0xff, 0}));
  fill_ones({});
}

TEST(BytesDeathTest, an_access_past_the_end_is_a_check_and_never_an_overrun) {
  std::array<std::uint8_t, 4> raw{};
  EXPECT_DEATH(load<std::uint32_t>(raw, 1), "load out of bounds");
  EXPECT_DEATH(load<std::uint8_t>(raw, ~std::size_t{0}), "load out of bounds");
  EXPECT_DEATH(store<std::uint64_t>(raw, 0, 1), "store out of bounds");
  std::array<std::uint8_t, 9> nine{};
  EXPECT_DEATH(load_uint(nine), "at most 8 bytes");
  EXPECT_DEATH(store_uint(nine, 0), "at most 8 bytes");
}

TEST(Bits, slices_include_both_ends) {
  EXPECT_EQ(bits(0xfedc'ba98'7654'3210, 63, 0), 0xfedc'ba98'7654'3210u);
  EXPECT_EQ(bits(0xfedc'ba98'7654'3210, 15, 8), 0x32u);
  EXPECT_EQ(bits(0x8000'0000'0000'0000, 63, 63), 1u);
  EXPECT_TRUE(bit(0x8000'0000'0000'0000, 63));
  EXPECT_FALSE(bit(0x7fff'ffff'ffff'ffff, 63));
}

TEST(Bits, low_mask_takes_0_to_64_and_more) {
  EXPECT_EQ(low_mask(0), 0u);
  EXPECT_EQ(low_mask(1), 1u);
  EXPECT_EQ(low_mask(63), 0x7fff'ffff'ffff'ffffu);
  EXPECT_EQ(low_mask(64), ~std::uint64_t{0});
  EXPECT_EQ(low_mask(255), ~std::uint64_t{0});
}

TEST(Bits, alignment_rounds_to_powers_of_two) {
  EXPECT_EQ(align_down(0x1fff, 0x1000), 0x1000u);
  EXPECT_EQ(align_down(0x1000, 0x1000), 0x1000u);
  EXPECT_EQ(align_up(0x1001, 0x1000), 0x2000u);
  EXPECT_EQ(align_up(0x1000, 0x1000), 0x1000u);
  EXPECT_EQ(align_up(0, 0x1000), 0u);
}

}  // namespace
}  // namespace vmm
