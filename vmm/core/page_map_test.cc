#include "vmm/core/page_map.h"

#include <gmock/gmock.h>

#include "vmm/core/memory_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kTable = 0x3;  // P, RW
constexpr std::uint64_t kLarge = 0x83;

PagingContext long_mode(Gpa cr3) {
  PagingContext context;
  context.cr0 = spec::CR0_PE | spec::CR0_PG;
  context.cr4 = spec::CR4_PAE;
  context.efer = spec::EFER_LME | spec::EFER_LMA;
  context.cr3 = cr3;
  return context;
}

TEST(PageMap, joins_neighbours_and_keeps_what_does_not_join) {
  FakeRam ram;
  ram.put64(0x1000, 0x2000 | kTable);
  ram.put64(0x2000, 0x3000 | kTable);
  ram.put64(0x3000, 0x4000 | kTable);
  ram.put64(0x3008, 0x200000 | kLarge);  // 2 MiB at 2 MiB
  for (unsigned i = 0; i < 512; ++i) ram.put64(0x4000 + i * 8, i * 4_KiB | kTable);
  ram.put64(0x4000 + 5 * 8, 0);
  EXPECT_THAT(map_pages(ram, long_mode(0x1000)).ranges,
              ElementsAre(MappedRange{0, 0, 0x5000}, MappedRange{0x6000, 0x6000, 4_MiB - 0x6000}));
}

TEST(PageMap, has_one_gib_pages_whatever_the_model_says_and_canonical_addresses) {
  FakeRam ram;
  ram.put64(0x1000 + 511 * 8, 0x2000 | kTable);
  ram.put64(0x2000 + 510 * 8, 0x40000000 | kLarge);
  PagingContext context = long_mode(0x1000);
  context.features.pdpe1gb = false;
  EXPECT_THAT(map_pages(ram, context).ranges,
              ElementsAre(MappedRange{0xffffffff80000000, 0x40000000, 1_GiB}));
  context.cr4 |= spec::CR4_LA57;
  ram.put64(0x5000 + 511 * 8, 0x1000 | kTable);
  context.cr3 = 0x5000;
  EXPECT_THAT(map_pages(ram, context).ranges,
              ElementsAre(MappedRange{0xffffffff80000000, 0x40000000, 1_GiB}));
}

TEST(PageMap, knows_the_32_bit_modes) {
  FakeRam ram;
  PagingContext context;
  context.cr0 = spec::CR0_PE | spec::CR0_PG;
  context.cr4 = spec::CR4_PSE;
  context.cr3 = 0x1000;
  ram.put32(0x1000 + 768 * 4, 0x83);  // 4 MiB at C0000000h
  EXPECT_THAT(map_pages(ram, context).ranges, ElementsAre(MappedRange{0xc0000000, 0, 4_MiB}));
  context.cr4 = spec::CR4_PAE;
  context.cr3 = 0x2020;
  ram.put64(0x2020 + 3 * 8, 0x3000 | 1);
  ram.put64(0x3000 + 511 * 8, 0x200000 | kLarge);
  EXPECT_THAT(map_pages(ram, context).ranges,
              ElementsAre(MappedRange{0xffe00000, 0x200000, 2_MiB}));
}

TEST(PageMap, is_the_first_4_gib_without_paging) {
  EXPECT_THAT(map_pages(FakeRam(), PagingContext()).ranges, ElementsAre(MappedRange{0, 0, 4_GiB}));
}

TEST(PageMap, leaves_out_tables_that_are_not_ram) {
  FakeRam ram;
  ram.put64(0x1000, 0x7fff0000 | kTable);
  EXPECT_THAT(map_pages(ram, long_mode(0x1000)).ranges, IsEmpty());
  EXPECT_THAT(map_pages(ram, long_mode(0xfffffffffffff000)).ranges, IsEmpty());
}

TEST(PageMap, of_tables_that_map_themselves_ends) {
  FakeRam ram;
  for (unsigned i = 0; i < 512; ++i) ram.put64(0x1000 + i * 8, 0x1000 | kTable);
  const PageMap of_entries = map_pages(ram, long_mode(0x1000), 1000, 1000);
  EXPECT_FALSE(of_entries.complete);
  EXPECT_LE(of_entries.ranges.size(), 1000u);
  const PageMap of_ranges = map_pages(ram, long_mode(0x1000), 100'000, 10);
  EXPECT_FALSE(of_ranges.complete);
  EXPECT_EQ(of_ranges.ranges.size(), 10u);
}

}  // namespace
}  // namespace vmm
