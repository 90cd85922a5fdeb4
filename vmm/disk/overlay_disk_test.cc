#include "vmm/disk/overlay_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Each sector holds its number; some cannot be read.
class Numbered final : public BlockBackend {
 public:
  explicit Numbered(std::uint64_t sectors) { geometry_ = {sectors, true, "id"}; }
  const BlockGeometry& geometry() const override { return geometry_; }
  bool read(std::uint64_t offset, std::span<std::uint8_t> data) override {
    ++reads;
    bool ok = true;
    for (std::size_t at = 0; at < data.size(); at += kSectorSize) {
      const std::uint64_t number = (offset + at) / kSectorSize;
      ok = ok && number != bad;
      std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(at), kSectorSize, std::uint8_t{0});
      store(data, at, number);
    }
    return ok;
  }
  bool write(std::uint64_t, std::span<const std::uint8_t>) override { return false; }
  bool flush() override { return false; }

  std::uint64_t bad = ~std::uint64_t{0};
  unsigned reads = 0;

 private:
  BlockGeometry geometry_;
};

class OverlayTest : public testing::Test {
 protected:
  explicit OverlayTest(std::uint64_t most = 64_KiB, std::uint64_t sectors = 1 << 20) {
    auto numbered = std::make_unique<Numbered>(sectors);
    below = numbered.get();
    disk = std::move(OverlayDisk::create(std::move(numbered), most)).value();
  }
  bool write(std::uint64_t sector, std::uint64_t value) {
    std::vector<std::uint8_t> data(kSectorSize);
    store(data, 0, value);
    return disk->write(sector * kSectorSize, data);
  }
  std::uint64_t read(std::uint64_t sector) {
    std::vector<std::uint8_t> data(kSectorSize);
    EXPECT_TRUE(disk->read(sector * kSectorSize, data));
    return load<std::uint64_t>(data);
  }

  Numbered* below;
  std::unique_ptr<OverlayDisk> disk;
};

TEST_F(OverlayTest, gives_what_was_written_and_else_what_is_below) {
  EXPECT_FALSE(disk->geometry().read_only);
  EXPECT_TRUE(disk->flush());
  EXPECT_TRUE(write(9, 900));
  EXPECT_TRUE(write(10, 1000));
  EXPECT_TRUE(write(9, 901));
  std::vector<std::uint8_t> data(6 * kSectorSize);
  below->reads = 0;
  ASSERT_TRUE(disk->read(7 * kSectorSize, data));
  std::vector<std::uint64_t> values;
  for (std::size_t at = 0; at < data.size(); at += kSectorSize)
    values.push_back(load<std::uint64_t>(data, at));
  EXPECT_THAT(values, ElementsAre(7, 8, 901, 1000, 11, 12));
  EXPECT_EQ(below->reads, 2U);
}

TEST_F(OverlayTest, sector_that_was_written_is_not_asked_for_below) {
  below->bad = 5;
  std::vector<std::uint8_t> data(8 * kSectorSize);
  EXPECT_FALSE(disk->read(0, data));
  EXPECT_TRUE(write(5, 50));
  EXPECT_TRUE(disk->read(0, data));
}

TEST_F(OverlayTest, refuses_more_than_its_bound_in_words) {
  EXPECT_TRUE(disk->finish().empty());
  for (std::uint64_t chunk = 0; chunk < 16; ++chunk) EXPECT_TRUE(write(chunk * 1000, chunk));
  EXPECT_FALSE(write(999'999, 1));
  EXPECT_TRUE(write(0, 77)) << "what it has room for already can change";
  EXPECT_TRUE(write(1, 78)) << "and so can the rest of that chunk";
  EXPECT_EQ(read(999'999), 999'999U);
  EXPECT_EQ(disk->refused_writes(), 1U);
  EXPECT_THAT(disk->finish(), ElementsAre(HasSubstr("1 writes failed: the memory for what the "
                                                    "guest writes is full (64 KiB)")));
}

TEST_F(OverlayTest, knows_what_was_written) {
  EXPECT_FALSE(disk->is_written(0, 1 << 29));
  EXPECT_TRUE(write(100, 0));
  EXPECT_TRUE(disk->is_written(100 * kSectorSize + 511, 1));
  EXPECT_FALSE(disk->is_written(100 * kSectorSize, 0));
  EXPECT_FALSE(disk->is_written(99 * kSectorSize, kSectorSize));
  EXPECT_FALSE(disk->is_written(101 * kSectorSize, 1 << 28));
  EXPECT_TRUE(disk->is_written(0, 1 << 28)) << "by what there is, not by what was asked for";
  EXPECT_FALSE(disk->is_written(0, 100 * kSectorSize));
}

TEST_F(OverlayTest, is_a_disk_like_any_other_to_random_writes) {
  std::mt19937 random(1);
  std::vector<std::uint64_t> expected(120);
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = i;
  for (unsigned i = 0; i < 2000; ++i) {
    const std::size_t first = random() % expected.size();
    const std::size_t count = 1 + random() % (expected.size() - first);
    if (random() % 3 == 0) {
      std::vector<std::uint8_t> data(count * kSectorSize);
      for (std::size_t s = 0; s < count; ++s) {
        expected[first + s] = random();
        store(data, s * kSectorSize, expected[first + s]);
      }
      ASSERT_TRUE(disk->write(first * kSectorSize, data));
    } else {
      std::vector<std::uint8_t> data(count * kSectorSize);
      ASSERT_TRUE(disk->read(first * kSectorSize, data));
      for (std::size_t s = 0; s < count; ++s)
        ASSERT_EQ(load<std::uint64_t>(data, s * kSectorSize), expected[first + s]);
    }
  }
}

}  // namespace
}  // namespace vmm
