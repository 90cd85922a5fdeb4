#include "vmm/core/guest_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

GuestMemory make(std::uint64_t size, bool vga_trap = false) {
  return std::move(GuestMemory::create(size, vga_trap)).value();
}

// How many pages of `bytes` the host has had to provide.
std::size_t resident_pages(std::span<std::uint8_t> bytes) {
  std::vector<unsigned char> pages(bytes.size() / 4096);
  if (::mincore(bytes.data(), bytes.size(), pages.data()) != 0) return ~std::size_t{0};
  return static_cast<std::size_t>(std::count_if(
      pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; }));
}

TEST(GuestMemory, small_memory_is_one_region_from_0) {
  const GuestMemory memory = make(16_MiB);
  ASSERT_THAT(memory.regions(), SizeIs(1));
  EXPECT_EQ(memory.regions()[0].base, 0u);
  EXPECT_EQ(memory.size(), 16_MiB);
  EXPECT_EQ(memory.low_end(), 16_MiB);
  EXPECT_EQ(memory.end(), 16_MiB);
}

TEST(GuestMemory, what_passes_3_gib_goes_on_at_4_gib) {
  const GuestMemory memory = make(5_GiB);
  ASSERT_THAT(memory.regions(), SizeIs(2));
  EXPECT_EQ(memory.regions()[0].host.size(), 3_GiB);
  EXPECT_EQ(memory.regions()[1].base, 4_GiB);
  EXPECT_EQ(memory.regions()[1].host.size(), 2_GiB);
  EXPECT_EQ(memory.low_end(), 3_GiB);
  EXPECT_EQ(memory.end(), 6_GiB);
  EXPECT_TRUE(memory.is_ram(3_GiB - 1));
  EXPECT_FALSE(memory.is_ram(3_GiB));
  EXPECT_FALSE(memory.is_ram(4_GiB - 1));
  EXPECT_TRUE(memory.is_ram(4_GiB));
  EXPECT_FALSE(memory.is_ram(6_GiB));
}

TEST(GuestMemory, exactly_3_gib_has_no_high_part) {
  const GuestMemory memory = make(3_GiB);
  EXPECT_THAT(memory.regions(), SizeIs(1));
  EXPECT_EQ(memory.end(), 3_GiB);
  EXPECT_EQ(make(3_GiB + 4_KiB).end(), 4_GiB + 4_KiB);
}

TEST(GuestMemory, both_parts_are_different_bytes) {
  GuestMemory memory = make(4_GiB);
  const std::array<std::uint8_t, 1> one = {1}, two = {2};
  ASSERT_TRUE(memory.write(3_GiB - 1, one));
  ASSERT_TRUE(memory.write(4_GiB, two));
  EXPECT_EQ(memory.read_value<std::uint8_t>(3_GiB - 1), 1);
  EXPECT_EQ(memory.read_value<std::uint8_t>(4_GiB), 2);
}

TEST(GuestMemory, impossible_sizes_are_usage_errors) {
  for (const std::uint64_t size :
       {std::uint64_t{0}, 4_KiB, 1_MiB - 4_KiB, 1_MiB + 1, 256_MiB + 512, ~std::uint64_t{0}}) {
    const auto memory = GuestMemory::create(size);
    ASSERT_FALSE(memory.has_value()) << size;
    EXPECT_EQ(memory.error().kind(), ErrorKind::Usage);
    EXPECT_THAT(memory.error().hint_text(), HasSubstr("--mem 256M"));
  }
  EXPECT_TRUE(GuestMemory::create(1_MiB).has_value());
}

TEST(GuestMemory, more_than_the_host_can_map_is_a_host_error) {
  const auto memory = GuestMemory::create(std::uint64_t{1} << 62);
  ASSERT_FALSE(memory.has_value());
  EXPECT_EQ(memory.error().kind(), ErrorKind::Host);
  EXPECT_THAT(memory.error().hint_text(), HasSubstr("give less with --mem"));
}

TEST(GuestMemory, is_zero_and_not_prefaulted) {
  const GuestMemory memory = make(64_MiB);
  EXPECT_EQ(resident_pages(memory.regions()[0].host), 0u);
  EXPECT_EQ(memory.read_value<std::uint64_t>(32_MiB), 0u);
}

TEST(GuestMemory, an_access_that_is_partly_outside_does_nothing) {
  GuestMemory memory = make(4_GiB);
  std::array<std::uint8_t, 8> data = {1, 2, 3, 4, 5, 6, 7, 8};
  for (const Gpa gpa : {3_GiB - 4, 5_GiB - 4, 4_GiB - 4, 5_GiB, ~Gpa{0}, ~Gpa{0} - 7}) {
    EXPECT_FALSE(memory.write(gpa, data)) << gpa;
    EXPECT_FALSE(memory.read(gpa, data)) << gpa;
    EXPECT_FALSE(memory.is_ram(gpa, 8)) << gpa;
    EXPECT_EQ(memory.read_value<std::uint64_t>(gpa), std::nullopt) << gpa;
  }
  EXPECT_EQ(memory.read_value<std::uint32_t>(3_GiB - 4), 0u);
}

TEST(GuestMemory, lengths_that_wrap_are_outside) {
  const GuestMemory memory = make(1_MiB);
  EXPECT_FALSE(memory.is_ram(4_KiB, ~std::uint64_t{0}));
  EXPECT_FALSE(memory.is_ram(4_KiB, ~std::uint64_t{0} - 4_KiB + 1));
  EXPECT_FALSE(memory.span(1, ~std::uint64_t{0}).has_value());
  EXPECT_TRUE(memory.is_ram(0, 1_MiB));
  EXPECT_FALSE(memory.is_ram(0, 1_MiB + 1));
}

TEST(GuestMemory, reads_what_was_written_little_endian) {
  GuestMemory memory = make(1_MiB);
  const std::array<std::uint8_t, 4> data = {0x78, 0x56, 0x34, 0x12};
  ASSERT_TRUE(memory.write(0xffffc, data));
  EXPECT_EQ(memory.read_value<std::uint32_t>(0xffffc), 0x12345678u);
  EXPECT_EQ(memory.span(0xffffe, 2)->front(), 0x34);
}

TEST(GuestMemory, zero_clears_the_range_and_no_byte_more) {
  GuestMemory memory = make(1_MiB);
  const std::vector<std::uint8_t> ones(64_KiB, 0xff);
  struct Case {
    Gpa start;
    std::uint64_t size;
  };
  for (const auto& [start, size] : {Case{0x10001, 1},
                                    {0x10000, 4096},
                                    {0x10fff, 2},
                                    {0x10123, 0x5432},
                                    {0x10010, 4096 + 4080},
                                    {0x11000, 0x3001},
                                    {0x10ffe, 0x1001}}) {
    ASSERT_TRUE(memory.write(0x10000, ones));
    ASSERT_TRUE(memory.zero(start, size));
    const auto bytes = *memory.span(0x10000, 64_KiB);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const Gpa gpa = 0x10000 + i;
      const bool inside = gpa >= start && gpa - start < size;
      ASSERT_EQ(bytes[i], inside ? 0 : 0xff) << std::hex << gpa << " of " << start << "+" << size;
    }
  }
}

TEST(GuestMemory, zero_gives_whole_pages_back) {
  GuestMemory memory = make(1_MiB);
  const std::vector<std::uint8_t> ones(256_KiB, 0xff);
  ASSERT_TRUE(memory.write(0, ones));
  ASSERT_TRUE(memory.zero(0, 256_KiB));
  EXPECT_EQ(resident_pages(*memory.span(0, 256_KiB)), 0u);
}

TEST(GuestMemory, zero_outside_does_nothing) {
  GuestMemory memory = make(1_MiB);
  const std::array<std::uint8_t, 1> one = {1};
  ASSERT_TRUE(memory.write(1_MiB - 1, one));
  EXPECT_FALSE(memory.zero(1_MiB - 1, 2));
  EXPECT_FALSE(memory.zero(0, ~std::uint64_t{0}));
  EXPECT_EQ(memory.read_value<std::uint8_t>(1_MiB - 1), 1);
  EXPECT_TRUE(memory.zero(~Gpa{0}, 0));
}

TEST(GuestMemory, the_vga_window_is_ram_unless_it_is_trapped) {
  GuestMemory memory = make(1_MiB);
  EXPECT_TRUE(memory.is_ram(0x9fffc, 8));
  const std::array<std::uint8_t, 2> cell = {'A', 0x1f};
  ASSERT_TRUE(memory.write(0xb8000, cell));
  EXPECT_EQ(memory.vga_window()[0x18000], 'A');
}

TEST(GuestMemory, a_trapped_vga_window_is_a_hole) {
  GuestMemory memory = make(1_MiB, true);
  ASSERT_THAT(memory.regions(), SizeIs(2));
  EXPECT_EQ(memory.regions()[0].host.size(), 0xa0000u);
  EXPECT_EQ(memory.regions()[1].base, 0xc0000u);
  EXPECT_TRUE(memory.is_ram(0x9ffff));
  EXPECT_FALSE(memory.is_ram(0xa0000));
  EXPECT_FALSE(memory.is_ram(0xbffff));
  EXPECT_TRUE(memory.is_ram(0xc0000));
  EXPECT_FALSE(memory.is_ram(0x9fffc, 8));
  EXPECT_EQ(memory.vga_window().size(), 0x20000u);
  EXPECT_EQ(memory.low_end(), 1_MiB);
  EXPECT_EQ(memory.end(), 1_MiB);
}

TEST(GuestMemory, a_trapped_window_shares_no_byte_with_ram) {
  GuestMemory memory = make(1_MiB, true);
  std::fill(memory.vga_window().begin(), memory.vga_window().end(), std::uint8_t{0xee});
  EXPECT_EQ(memory.read_value<std::uint8_t>(0x9ffff), 0);
  EXPECT_EQ(memory.read_value<std::uint8_t>(0xc0000), 0);
}

TEST(GuestMemory, moving_keeps_its_bytes) {
  GuestMemory memory = make(1_MiB);
  const std::array<std::uint8_t, 1> one = {1};
  ASSERT_TRUE(memory.write(0x1000, one));
  const GuestMemory moved = std::move(memory);
  EXPECT_EQ(moved.read_value<std::uint8_t>(0x1000), 1);
}

TEST(GuestMemory, rom_is_read_and_is_no_ram) {
  GuestMemory memory = std::move(GuestMemory::create(1_MiB)).value();
  std::vector<std::uint8_t> bytes(8_KiB, 0x5a);
  bytes.back() = 0xa5;
  ASSERT_TRUE(memory.add_rom(4_GiB - 8_KiB, bytes).has_value());
  EXPECT_EQ(memory.read_value<std::uint16_t>(4_GiB - 2), 0xa55a);
  EXPECT_EQ(memory.read_value<std::uint16_t>(4_GiB - 1), std::nullopt);
  EXPECT_EQ(memory.read_value<std::uint16_t>(4_GiB - 8_KiB - 1), std::nullopt);
  EXPECT_FALSE(memory.is_ram(4_GiB - 8_KiB));
  EXPECT_FALSE(memory.write(4_GiB - 8_KiB, std::vector<std::uint8_t>{1}));
  EXPECT_FALSE(memory.zero(4_GiB - 8_KiB, 4_KiB));
  EXPECT_EQ(memory.low_end(), 1_MiB);
  EXPECT_EQ(memory.end(), 1_MiB);
  ASSERT_EQ(memory.roms().size(), 1u);
  EXPECT_EQ(memory.roms()[0].base, 4_GiB - 8_KiB);
}

TEST(GuestMemory, cleared_it_is_zero_behind_a_trapped_window_too_and_its_rom_stays) {
  auto memory = *GuestMemory::create(2_MiB, true);
  const std::vector<std::uint8_t> rom(4_KiB, 0x90);
  ASSERT_TRUE(memory.add_rom(kHoleEnd - 4_KiB, rom));
  const std::array<std::uint8_t, 2> bytes{0x12, 0x34};
  ASSERT_TRUE(memory.write(0x1fff, bytes));
  memory.vga_window()[7] = 1;
  memory.clear();
  EXPECT_EQ(memory.read_value<std::uint16_t>(0x1fff), 0);
  EXPECT_EQ(memory.vga_window()[7], 0);
  EXPECT_EQ(memory.read_value<std::uint8_t>(kHoleEnd - 1), 0x90);
}

}  // namespace
}  // namespace vmm
