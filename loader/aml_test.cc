#include "loader/aml.h"

#include <gtest/gtest.h>

namespace vmm::aml {
namespace {

TEST(Aml, integers_take_the_shortest_form) {
  EXPECT_EQ(integer(0), (Bytes{0x00}));
  EXPECT_EQ(integer(1), (Bytes{0x01}));
  EXPECT_EQ(integer(2), (Bytes{0x0a, 2}));
  EXPECT_EQ(integer(0x100), (Bytes{0x0b, 0x00, 0x01}));
  EXPECT_EQ(integer(0x1'0000), (Bytes{0x0c, 0, 0, 1, 0}));
  EXPECT_EQ(integer(0x1'0000'0000), (Bytes{0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(Aml, eisa_ids_are_compressed) {
  EXPECT_EQ(eisa_id("PNP0A03"), (Bytes{0x0c, 0x41, 0xd0, 0x0a, 0x03}));
  EXPECT_EQ(eisa_id("PNP0501"), (Bytes{0x0c, 0x41, 0xd0, 0x05, 0x01}));
  EXPECT_DEATH(eisa_id("PNP050"), "seven");
  EXPECT_DEATH(eisa_id("pNP0501"), "letters");
  EXPECT_DEATH(eisa_id("PNP050g"), "digits");
}

TEST(Aml, names_are_padded) {
  EXPECT_EQ(name("\\_S5", integer(0)), (Bytes{0x08, '\\', '_', 'S', '5', '_', 0x00}));
  EXPECT_EQ(device("RTC", {}), (Bytes{0x5b, 0x82, 0x05, 'R', 'T', 'C', '_'}));
  EXPECT_DEATH(name("TOOLONG", {}), "four letters");
  EXPECT_DEATH(name("\\", {}), "four letters");
}

// 20.2.4: one byte up to 63, then four bits in the first byte and eight in each further one.
TEST(Aml, lengths_count_their_own_bytes) {
  const auto scope_of = [](std::size_t terms) { return scope("A", Bytes(terms, 0xa3)); };
  EXPECT_EQ(scope_of(58)[1], 63);
  const Bytes two = scope_of(59);
  EXPECT_EQ(Bytes(two.begin(), two.begin() + 3), (Bytes{0x10, 0x41, 0x04}));
  EXPECT_EQ(two.size(), 1u + 0x41);
  const Bytes most = scope_of(0xfff - 2 - 4);
  EXPECT_EQ(Bytes(most.begin(), most.begin() + 3), (Bytes{0x10, 0x4f, 0xff}));
  const Bytes more = scope_of(0xfff - 2 - 4 + 1);
  EXPECT_EQ(Bytes(more.begin(), more.begin() + 4), (Bytes{0x10, 0x81, 0x00, 0x01}));
  EXPECT_EQ(more.size(), 1u + 0x1001);
}

TEST(Aml, packages_count_their_elements) {
  EXPECT_EQ(package({integer(5), integer(0)}), (Bytes{0x12, 0x05, 2, 0x0a, 5, 0x00}));
}

TEST(Aml, resources_end_with_a_tag) {
  EXPECT_EQ(resources({io_ports(0x3f8, 8), isa_irq(4)}),
            (Bytes{0x11, 0x10, 0x0a, 13, 0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x22, 0x10, 0, 0x79, 0}));
}

TEST(Aml, windows_hold_first_last_and_length) {
  EXPECT_EQ(port_window(0xd00, 0xffff),
            (Bytes{0x88, 13, 0, 1, 0x0c, 3, 0, 0, 0, 0x0d, 0xff, 0xff, 0, 0, 0, 0xf3}));
  EXPECT_EQ(memory_window(0xa0000, 0xbffff),
            (Bytes{0x87, 23,   0,    0,    0x0c, 1, 0, 0, 0, 0, 0, 0, 0x0a,
                   0,    0xff, 0xff, 0x0b, 0,    0, 0, 0, 0, 0, 0, 2, 0}));
  EXPECT_DEATH(port_window(2, 1), "ends before");
}

}  // namespace
}  // namespace vmm::aml
