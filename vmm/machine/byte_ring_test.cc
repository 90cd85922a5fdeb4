#include "vmm/machine/byte_ring.h"

#include <gtest/gtest.h>

#include <array>

namespace vmm {
namespace {

TEST(ByteRing, refuses_bytes_when_full_and_keeps_those_it_has) {
  ByteRing ring(3, [] {});
  for (const int byte : {1, 2, 3}) EXPECT_TRUE(ring.put(static_cast<std::uint8_t>(byte)));
  EXPECT_FALSE(ring.put(4));
  EXPECT_EQ(ring.room(), 0u);
  EXPECT_EQ(ring.get(), 1);
  EXPECT_TRUE(ring.put(5));
  for (const int byte : {2, 3, 5}) EXPECT_EQ(ring.get(), byte);
  EXPECT_EQ(ring.get(), std::nullopt);
}

TEST(ByteRing, tells_once_when_it_stops_being_empty_and_when_it_stops_being_full) {
  int told = 0;
  ByteRing ring(2, [&told] { ++told; });
  ring.put(1);
  ring.put(2);
  EXPECT_EQ(told, 1);
  ring.get();
  EXPECT_EQ(told, 2);
  ring.get();
  EXPECT_EQ(told, 2);
}

TEST(ByteRing, peeks_across_its_end_without_taking) {
  ByteRing ring(4, [] {});
  for (const int byte : {1, 2, 3, 4}) ring.put(static_cast<std::uint8_t>(byte));
  ring.consume(2);
  ring.put(5);
  std::array<std::uint8_t, 8> out{};
  EXPECT_EQ(ring.peek(out), 3u);
  EXPECT_EQ(out[0], 3);
  EXPECT_EQ(out[2], 5);
  EXPECT_EQ(ring.size(), 3u);
  ring.consume(100);
  EXPECT_EQ(ring.size(), 0u);
}

}  // namespace
}  // namespace vmm
