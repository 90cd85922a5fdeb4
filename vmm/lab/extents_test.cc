#include "vmm/lab/extents.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <limits>

#include "vmm/lab/wire_fake.h"

namespace vmm {
namespace {

using Extents = std::vector<Extent>;

TEST(Extents, of_a_file_are_where_it_was_written) {
  const TemporaryFolder folder;
  const Fd file = *Fd::open(folder / "sparse", O_RDWR | O_CREAT);
  constexpr std::uint64_t kMebibyte = 1 << 20;
  ASSERT_EQ(::ftruncate(file.get(), 5 * kMebibyte + 3), 0);
  EXPECT_EQ(bytes_in(data_extents(file.get(), 5 * kMebibyte + 3)), 0u);
  ASSERT_EQ(::pwrite(file.get(), "x", 1, 2 * kMebibyte), 1);
  ASSERT_EQ(::pwrite(file.get(), "y", 1, 5 * kMebibyte + 2), 1);
  const Extents extents = data_extents(file.get(), 5 * kMebibyte + 3);
  EXPECT_TRUE(are_extents_of(extents, 5 * kMebibyte + 3));
  // A file system that knows no holes may say that all of it is data.
  ASSERT_LE(extents.size(), 2u);
  if (extents.size() == 2) {
    EXPECT_EQ(extents[0].offset, 2 * kMebibyte);
    EXPECT_EQ(extents[1].offset + extents[1].size, 5 * kMebibyte + 3);
    EXPECT_LT(bytes_in(extents), kMebibyte);
  }
  // What a file has got beyond the size that was asked about is not told.
  EXPECT_TRUE(are_extents_of(data_extents(file.get(), kMebibyte), kMebibyte));
}

TEST(Extents, beyond_the_most_the_rest_is_one) {
  const TemporaryFolder folder;
  const Fd file = *Fd::open(folder / "comb", O_RDWR | O_CREAT);
  constexpr off_t kTooth = 16384;
  constexpr off_t kTeeth = kMaxExtents + 50;
  for (off_t i = 0; i < kTeeth; ++i) ASSERT_EQ(::pwrite(file.get(), "x", 1, i * kTooth), 1);
  const auto size = static_cast<std::uint64_t>((kTeeth - 1) * kTooth + 1);
  const Extents extents = data_extents(file.get(), size);
  EXPECT_LE(extents.size(), kMaxExtents);
  EXPECT_TRUE(are_extents_of(extents, size));
  EXPECT_EQ(extents.back().offset + extents.back().size, size);
}

TEST(Extents, are_those_of_a_file_when_they_lie_in_it_one_after_another) {
  EXPECT_TRUE(are_extents_of({}, 0));
  EXPECT_TRUE(are_extents_of({{0, 5}, {5, 5}}, 10));
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  for (const Extents& wrong : std::vector<Extents>{{{0, 0}},
                                                   {{0, 11}},
                                                   {{10, 1}},
                                                   {{11, 1}},
                                                   {{5, 2}, {6, 1}},
                                                   {{5, 2}, {0, 1}},
                                                   {{1, kMost}},
                                                   {{kMost, 1}},
                                                   {{kMost, kMost}}})
    EXPECT_FALSE(are_extents_of(wrong, 10));
}

TEST(ExtentWalk, goes_from_one_to_the_next_and_no_further) {
  const TemporaryFolder folder;
  write_text(folder / "file", "0123456789");
  const Fd file = *Fd::open(folder / "file", O_RDONLY);
  ExtentWalk walk({{1, 3}, {6, 2}});
  EXPECT_EQ(walk.move(file.get(), 0), 3);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), 1);
  char c = 0;
  ASSERT_EQ(::read(file.get(), &c, 1), 1);
  EXPECT_EQ(walk.move(file.get(), 1), 2);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), 2);
  EXPECT_EQ(walk.move(file.get(), 3), 2);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), 6);
  EXPECT_EQ(walk.move(file.get(), 5), 0);
  EXPECT_EQ(ExtentWalk({{1, 3}}).move(-1, 0), -EBADF);
}

}  // namespace
}  // namespace vmm
