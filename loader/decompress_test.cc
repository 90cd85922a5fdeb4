#include "loader/decompress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/compressed_fake.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

using namespace testing_packed;
using testing::HasSubstr;

// Compresses, but not to nothing.
ByteVector content_of(std::size_t size) {
  ByteVector content(size);
  for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<std::uint8_t>(i * i >> 8);
  return content;
}

TEST(Decompress, gives_back_what_was_packed) {
  for (const Compression compression : kCompressions) {
    SCOPED_TRACE(compression_name(compression));
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{3'000'000}, std::size_t{9'000'000}}) {
      const ByteVector content = content_of(size);
      const ByteVector packed = pack(compression, content);
      EXPECT_EQ(compression_of(packed), compression);
      EXPECT_EQ(decompress(compression, packed, 64_MiB).value(), content);
      EXPECT_EQ(decompress(compression, packed, content.size()).value(), content);
      // The promise of a size may be anything.
      for (const std::size_t expected :
           {std::size_t{1}, content.size() / 2, content.size(), 10 * content.size(), 4_GiB})
        EXPECT_EQ(decompress(compression, packed, 64_MiB, expected).value(), content) << expected;
    }
  }
}

TEST(Decompress, a_bomb_stops_at_the_limit) {
  const ByteVector content(20'000'000);
  for (const Compression compression : kCompressions) {
    SCOPED_TRACE(compression_name(compression));
    const auto result = decompress(compression, pack(compression, content), 1_MiB);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind(), ErrorKind::Image);
    EXPECT_THAT(result.error().text(), HasSubstr("more than 1 MiB"));
    EXPECT_FALSE(decompress(compression, pack(compression, content), content.size() - 1));
  }
}

TEST(Decompress, damaged_data_is_an_error) {
  const ByteVector content(1000, 5);
  for (const Compression compression : kCompressions) {
    SCOPED_TRACE(compression_name(compression));
    const ByteVector packed = pack(compression, content);
    // A cut lz4 file may end with a whole block, or with none at all.
    for (std::size_t size = 5; size < packed.size(); ++size)
      EXPECT_FALSE(decompress(compression, std::span(packed).first(size), 1_MiB)) << size;
    for (std::size_t at = 4; at < packed.size(); ++at) {
      ByteVector bytes = packed;
      bytes[at] ^= 0xff;
      [[maybe_unused]] const auto any = decompress(compression, bytes, 1_MiB);
    }
  }
}

TEST(Decompress, gzip_members_follow_each_other_and_zeroes_are_padding) {
  ByteVector packed = gzip({1, 2, 3});
  const ByteVector second = gzip({4});
  packed.insert(packed.end(), second.begin(), second.end());
  EXPECT_EQ(decompress(Compression::Gzip, packed, 100).value(), ByteVector({1, 2, 3, 4}));
  packed.resize(packed.size() + 512);
  EXPECT_EQ(decompress(Compression::Gzip, packed, 100).value(), ByteVector({1, 2, 3, 4}));
  packed.push_back(7);
  EXPECT_THAT(decompress(Compression::Gzip, packed, 100).error().text(),
              HasSubstr("1 bytes behind its end are something else"));
}

TEST(Decompress, other_files_are_not_taken_for_packed_ones) {
  EXPECT_EQ(compression_of({}), std::nullopt);
  EXPECT_EQ(compression_of(ByteVector{0x1f}), std::nullopt);
  EXPECT_EQ(compression_of(ByteVector{0x7f, 'E', 'L', 'F'}), std::nullopt);
}

TEST(Decompress, the_limit_grows_with_the_file_and_ends) {
  EXPECT_EQ(most_content(0), 64_MiB);
  EXPECT_EQ(most_content(1_MiB), 96_MiB);
  EXPECT_EQ(most_content(~std::size_t{0}), 1_GiB);
}

}  // namespace
}  // namespace vmm
