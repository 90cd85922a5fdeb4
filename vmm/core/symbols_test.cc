#include "vmm/core/symbols.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace vmm {
namespace {

TEST(SymbolTable, names_an_address_with_its_offset) {
  SymbolTable table;
  table.add("main", 0x100000, 0x40);
  EXPECT_EQ(table.name_of(0x100000), "main");
  EXPECT_EQ(table.name_of(0x10001a), "main+1ah");
  EXPECT_EQ(table.name_of(0x10003f), "main+3fh");
}

TEST(SymbolTable, says_nothing_outside_of_a_symbol) {
  SymbolTable table;
  EXPECT_EQ(table.name_of(0), std::nullopt);
  table.add("main", 0x100000, 0x40);
  EXPECT_EQ(table.name_of(0xfffff), std::nullopt);
  EXPECT_EQ(table.name_of(0x100040), std::nullopt);
  EXPECT_EQ(table.name_of(~Gva{0}), std::nullopt);
}

TEST(SymbolTable, a_symbol_without_size_reaches_the_next_or_64_kib) {
  SymbolTable table;
  table.add("start", 0x100000, 0);
  EXPECT_EQ(table.name_of(0x10ffff), "start+ffffh");
  EXPECT_EQ(table.name_of(0x110000), std::nullopt);
  table.add("next", 0x100100, 0x10);
  EXPECT_EQ(table.name_of(0x1000ff), "start+ffh");
  EXPECT_EQ(table.name_of(0x100100), "next");
  EXPECT_EQ(table.name_of(0x100110), std::nullopt);
}

TEST(SymbolTable, the_first_name_of_an_address_stays) {
  SymbolTable table;
  table.add("memcpy", 0x1000, 8);
  table.add("__memcpy_alias", 0x1000, 8);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.name_of(0x1000), "memcpy");
}

TEST(SymbolTable, the_ends_of_the_address_space_are_no_overflow) {
  SymbolTable table;
  table.add("zero", 0, ~std::uint64_t{0});
  table.add("top", ~Gva{0}, ~std::uint64_t{0});
  EXPECT_EQ(table.name_of(0), "zero");
  EXPECT_EQ(table.name_of(~Gva{0} - 1), "zero+fffffffffffffffeh");
  EXPECT_EQ(table.name_of(~Gva{0}), "top");
}

TEST(SymbolTable, finds_addresses_by_name) {
  SymbolTable table;
  EXPECT_TRUE(table.empty());
  table.add("load_cr3", 0x100080, 16);
  EXPECT_EQ(table.address_of("load_cr3"), 0x100080u);
  EXPECT_EQ(table.address_of("load_cr"), std::nullopt);
}

TEST(SymbolTable, of_a_kernel_that_moved_leaves_the_rest_in_place) {
  SymbolTable table;
  table.add("panic", SymbolTable::kMovable + 0x10'0000, 100);
  table.add("of_a_user", 0x40'0000, 100);
  table.move_kernel(0x1a00'0000);
  EXPECT_EQ(table.slide(), 0x1a00'0000u);
  EXPECT_EQ(table.name_of(SymbolTable::kMovable + 0x1a10'0001), "panic+1h");
  EXPECT_EQ(table.name_of(SymbolTable::kMovable + 0x10'0000), std::nullopt);
  EXPECT_EQ(table.address_of("panic"), SymbolTable::kMovable + 0x1a10'0000);
  EXPECT_EQ(table.name_of(0x40'0000), "of_a_user");
  const SymbolTable copy = table;
  EXPECT_EQ(copy.address_of("panic"), SymbolTable::kMovable + 0x1a10'0000);
  table.move_kernel(0);
  EXPECT_EQ(table.name_of(SymbolTable::kMovable + 0x10'0000), "panic");
}

TEST(SymbolTable, hostile_names_cannot_reach_the_terminal) {
  SymbolTable table;
  table.add("\x1b[2Jevil", 0x1000, 8);
  table.add(std::string(100'000, 'x'), 0x2000, 8);
  table.add("", 0x3000, 8);
  EXPECT_EQ(table.name_of(0x1000), "\\x1b[2Jevil");
  EXPECT_EQ(table.name_of(0x2000), std::string(SymbolTable::kMaxName, 'x') + "...");
  EXPECT_EQ(table.name_of(0x3000), std::nullopt);
}

TEST(SymbolTable, is_bounded) {
  SymbolTable table;
  for (Gva i = 0; i < SymbolTable::kMaxSymbols + 10; ++i) table.add("s", i, 1);
  EXPECT_EQ(table.size(), SymbolTable::kMaxSymbols);
  EXPECT_EQ(table.name_of(SymbolTable::kMaxSymbols), std::nullopt);
}

}  // namespace
}  // namespace vmm
