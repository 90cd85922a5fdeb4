#include "vmm/core/watched_bytes.h"

#include <gtest/gtest.h>

#include "vmm/core/memory_fake.h"

namespace vmm {
namespace {

constexpr std::uint64_t kPresent = 3;

// 32-bit paging: the page at 400000h is mapped by one entry that tests change.
class WatchedBytesTest : public testing::Test {
 protected:
  WatchedBytesTest() {
    ram_.put32(0x1000 + 4 * 1, 0x2000 | kPresent);
    map(0, 0x3000);
    map(1, 0x5000);
    context_.cr0 = spec::CR0_PE | spec::CR0_PG;
    context_.cr3 = 0x1000;
  }
  void map(unsigned page, Gpa gpa) {
    ram_.put32(0x2000 + 4 * page, gpa == 0 ? 0 : static_cast<std::uint32_t>(gpa | kPresent));
  }
  std::optional<std::size_t> update(const std::vector<WatchedRange>& ranges) {
    return watched_.update(ranges, ram_, context_);
  }

  FakeRam ram_{0x10000};
  PagingContext context_;
  WatchedBytes watched_;
};

TEST_F(WatchedBytesTest, the_first_look_finds_nothing_changed_and_each_change_is_told_once) {
  const std::vector<WatchedRange> ranges = {{0x400000, 4}, {0x400010, 8}};
  EXPECT_EQ(update(ranges), std::nullopt);
  EXPECT_EQ(update(ranges), std::nullopt);
  ram_.bytes()[0x3017] = 1;
  EXPECT_EQ(update(ranges), 1U);
  EXPECT_EQ(update(ranges), std::nullopt);
  ram_.bytes()[0x3004] = 1;
  EXPECT_EQ(update(ranges), std::nullopt) << "between both";
}

TEST_F(WatchedBytesTest, of_two_changes_the_first_is_told) {
  const std::vector<WatchedRange> ranges = {{0x400000, 4}, {0x400010, 8}};
  update(ranges);
  ram_.bytes()[0x3000] = ram_.bytes()[0x3010] = 1;
  EXPECT_EQ(update(ranges), 0U);
}

TEST_F(WatchedBytesTest, a_range_may_cross_into_a_page_that_lies_elsewhere) {
  const std::vector<WatchedRange> ranges = {{0x400ffc, 8}};
  update(ranges);
  ram_.bytes()[0x5003] = 1;
  EXPECT_EQ(update(ranges), 0U);
  ram_.bytes()[0x4000] = 1;
  EXPECT_EQ(update(ranges), std::nullopt);
}

TEST_F(WatchedBytesTest, another_page_at_the_address_is_no_write) {
  const std::vector<WatchedRange> ranges = {{0x400000, 4}};
  ram_.bytes()[0x7000] = 9;
  update(ranges);
  map(0, 0x7000);
  EXPECT_EQ(update(ranges), std::nullopt);
  ram_.bytes()[0x7000] = 8;
  EXPECT_EQ(update(ranges), 0U);
}

TEST_F(WatchedBytesTest, what_is_not_mapped_does_not_change) {
  const std::vector<WatchedRange> ranges = {{0x400000, 4}};
  map(0, 0);
  EXPECT_EQ(update(ranges), std::nullopt);
  map(0, 0x3000);
  EXPECT_EQ(update(ranges), std::nullopt);
  ram_.bytes()[0x3000] = 1;
  EXPECT_EQ(update(ranges), 0U);
}

TEST_F(WatchedBytesTest, a_range_that_is_new_is_compared_from_the_next_look_on) {
  update({{0x400000, 4}});
  ram_.bytes()[0x3010] = 1;
  EXPECT_EQ(update({{0x400000, 4}, {0x400010, 4}}), std::nullopt);
}

}  // namespace
}  // namespace vmm
