#include "loader/mp_table.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using Bytes = std::vector<std::uint8_t>;

unsigned sum(const Bytes& bytes) { return std::accumulate(bytes.begin(), bytes.end(), 0U) & 0xff; }

// The entries, by their type (section 4.3): 20 bytes for processors, 8 for all others.
std::vector<std::vector<Bytes>> entries(const Bytes& table) {
  std::vector<std::vector<Bytes>> by_type(5);
  std::size_t at = 44;
  unsigned count = 0;
  for (; at < table.size(); ++count) {
    const std::size_t size = table[at] == 0 ? 20 : 8;
    by_type.at(table[at]).emplace_back(table.begin() + static_cast<std::ptrdiff_t>(at),
                                       table.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
  }
  EXPECT_EQ(at, table.size());
  EXPECT_EQ(count, load<std::uint16_t>(table, 34));
  return by_type;
}

BoardDescription board_of(unsigned cpus, std::uint32_t first_id = 0) {
  BoardDescription board;
  for (unsigned i = 0; i < cpus; ++i) board.apic_ids.push_back(first_id + i);
  return board;
}

TEST(MpTable, the_pointer_names_the_table) {
  const Bytes pointer = make_mp_pointer(0xf0010);
  EXPECT_EQ(pointer,
            (Bytes{'_', 'M', 'P', '_', 0x10, 0x00, 0x0f, 0x00, 1, 4, pointer[10], 0, 0, 0, 0, 0}));
  EXPECT_EQ(sum(pointer), 0u);
}

TEST(MpTable, the_header_counts_and_sums_up) {
  for (const unsigned cpus : {1u, 4u, 64u}) {
    const Bytes table = make_mp_table(board_of(cpus));
    EXPECT_EQ(std::string(table.begin(), table.begin() + 4), "PCMP");
    EXPECT_EQ(load<std::uint16_t>(table, 4), table.size());
    EXPECT_EQ(table[6], 4);
    EXPECT_EQ(sum(table), 0u);
    EXPECT_EQ(load<std::uint32_t>(table, 36), 0xfee0'0000u);
    EXPECT_EQ(entries(table)[0].size(), cpus);
  }
}

TEST(MpTable, the_first_processor_is_the_boot_processor) {
  BoardDescription board = board_of(3);
  board.cpu_signature = 0x806f8;
  board.cpu_features = 0xbfeb'fbff;
  const auto processors = entries(make_mp_table(board))[0];
  for (std::size_t i = 0; i < processors.size(); ++i) {
    EXPECT_EQ(processors[i][1], i);
    EXPECT_EQ(processors[i][3], i == 0 ? 3 : 1);
    EXPECT_EQ(load<std::uint32_t>(processors[i], 4), 0x806f8u);
    EXPECT_EQ(load<std::uint32_t>(processors[i], 8), 0xbfeb'fbffu);
  }
}

TEST(MpTable, ids_of_more_than_8_bits_are_left_out) {
  const auto processors = entries(make_mp_table(board_of(4, 253)))[0];
  ASSERT_EQ(processors.size(), 2u);
  EXPECT_EQ(processors[1][1], 254);
}

TEST(MpTable, buses_and_ioapic_are_the_boards) {
  const auto all = entries(make_mp_table(board_of(1)));
  EXPECT_EQ(all[1], (std::vector<Bytes>{{1, 0, 'P', 'C', 'I', ' ', ' ', ' '},
                                        {1, 1, 'I', 'S', 'A', ' ', ' ', ' '}}));
  EXPECT_EQ(all[2], (std::vector<Bytes>{{2, 0, 0x20, 1, 0, 0, 0xc0, 0xfe}}));
}

TEST(MpTable, isa_interrupts_have_the_pin_of_their_number_but_the_timer) {
  const auto interrupts = entries(make_mp_table(board_of(1)))[3];
  ASSERT_EQ(interrupts.size(), 15u);
  EXPECT_EQ(interrupts[0], (Bytes{3, 0, 0, 0, 1, 0, 0, 2}));
  EXPECT_EQ(interrupts[1], (Bytes{3, 0, 0, 0, 1, 1, 0, 1}));
  EXPECT_EQ(interrupts[2], (Bytes{3, 0, 0, 0, 1, 3, 0, 3})) << "2 is the cascade";
  EXPECT_EQ(interrupts[8], (Bytes{3, 0, 0x0d, 0, 1, 9, 0, 9})) << "the SCI is a level, high";
}

TEST(MpTable, pci_interrupts_are_levels_in_the_place_of_isa_ones) {
  BoardDescription board = board_of(1);
  board.pci_interrupts = {{.device = 3, .irq = 11}, {.device = 4, .irq = 11}};
  const auto interrupts = entries(make_mp_table(board))[3];
  ASSERT_EQ(interrupts.size(), 16u);
  EXPECT_EQ(interrupts[14], (Bytes{3, 0, 0x0d, 0, 0, 3 << 2, 0, 11}));
  EXPECT_EQ(interrupts[15], (Bytes{3, 0, 0x0d, 0, 0, 4 << 2, 0, 11}));
  for (std::size_t i = 0; i < 14; ++i) EXPECT_NE(interrupts[i][5], 11);
}

TEST(MpTable, local_interrupts_are_extint_and_nmi) {
  EXPECT_EQ(entries(make_mp_table(board_of(2)))[4],
            (std::vector<Bytes>{{4, 3, 0, 0, 1, 0, 0, 0}, {4, 1, 0, 0, 1, 0, 0xff, 1}}));
}

}  // namespace
}  // namespace vmm
