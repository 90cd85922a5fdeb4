#include "loader/bzimage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/bzimage_header.h"
#include "loader/compressed_fake.h"
#include "loader/image_builder.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using namespace testing_images;
namespace packed = testing_packed;
namespace spec = bzimage_header;

ByteVector kernel() {
  return Elf64Builder()
      .entry(16_MiB)
      .load_segment(16_MiB, 0xffff'ffff'8100'0000, {0xf4, 1, 2, 3}, 100)
      .build();
}

// Code of 1000h bytes, unknown to any unpacker.
ByteVector opaque() { return packed::bzimage(pattern(0x1000)); }

Result<LoadedImage> parse_with(Result<void> (*parse)(LoadedImage&), ByteVector bytes) {
  LoadedImage image;
  image.bytes = std::move(bytes);
  VMM_TRY(parse(image));
  return image;
}

TEST(BzImage, kernel_is_found_behind_each_compression) {
  for (const Compression compression : packed::kCompressions) {
    SCOPED_TRACE(compression_name(compression));
    const auto image =
        parse_with(parse_unpacked_bzimage, packed::bzimage(packed::payload(compression, kernel())));
    ASSERT_TRUE(image) << image.error().text();
    EXPECT_EQ(image->protocol, BootProtocol::Linux64);
    EXPECT_EQ(image->entry, 16_MiB);
    EXPECT_EQ(image->bytes, kernel());
    EXPECT_EQ(image->room, 0x10'0000U);
    EXPECT_EQ(image->setup_header.size(), 0x268U - 0x1f1U);
  }
  EXPECT_TRUE(parse_with(parse_unpacked_bzimage, packed::bzimage(kernel())));
}

TEST(BzImage, its_own_entries_are_where_the_protocol_says) {
  const auto image64 = parse_with(parse_bzimage64, opaque());
  ASSERT_TRUE(image64) << image64.error().text();
  EXPECT_EQ(image64->protocol, BootProtocol::Linux64);
  EXPECT_EQ(image64->entry, 0x100'0200U);
  EXPECT_EQ(image64->segments[0].gpa, 0x100'0000U);
  EXPECT_EQ(image64->segments[0].file_offset, 1024U);
  EXPECT_EQ(image64->segments[0].file_size, 0x1000U);
  const auto image32 = parse_with(parse_bzimage32, opaque());
  ASSERT_TRUE(image32) << image32.error().text();
  EXPECT_EQ(image32->protocol, BootProtocol::Linux32);
  EXPECT_EQ(image32->entry, 0x100'0000U);
}

TEST(BzImage, one_that_cannot_be_moved_lies_at_code32_start) {
  ByteVector bytes = opaque();
  bytes[spec::kRelocatableKernel] = 0;
  EXPECT_EQ(parse_with(parse_bzimage32, bytes)->entry, 0x10'0000U);
  EXPECT_EQ(parse_with(parse_bzimage64, bytes)->entry, 0x10'0200U);
}

TEST(BzImage, kernel_without_a_64_bit_entry_is_sent_to_the_other_protocol) {
  ByteVector bytes = opaque();
  store<std::uint16_t>(bytes, spec::kXLoadFlags, 0);
  const auto image = parse_with(parse_bzimage64, bytes);
  ASSERT_FALSE(image);
  EXPECT_THAT(error_text(image), HasSubstr("no 64-bit entry"));
  EXPECT_THAT(hint_text(image), HasSubstr("--boot linux32"));
  EXPECT_TRUE(parse_with(parse_bzimage32, bytes));
}

TEST(BzImage, absurd_fields_are_named) {
  const auto refusal = [](auto&& change) {
    ByteVector bytes = opaque();
    change(bytes);
    const auto image = parse_with(parse_bzimage64, bytes);
    return error_text(image);
  };
  EXPECT_THAT(refusal([](ByteVector& b) { b[spec::kSetupSects] = 255; }),
              HasSubstr("setup_sects 255"));
  EXPECT_THAT(refusal([](ByteVector& b) { b[spec::kLoadFlags] = 0; }), HasSubstr("zImage"));
  EXPECT_THAT(refusal([](ByteVector& b) { b[spec::kBootFlag] = 0; }), HasSubstr("AA55h"));
  EXPECT_THAT(refusal([](ByteVector& b) { store<std::uint16_t>(b, spec::kVersion, 0x1ff); }),
              HasSubstr("older than 200h"));
  EXPECT_THAT(refusal([](ByteVector& b) {
                store<std::uint64_t>(b, spec::kPrefAddress, 0xffff'ffff'ffff'f000);
              }),
              HasSubstr("pref_address"));
  EXPECT_THAT(refusal([](ByteVector& b) { b.resize(1024); }), HasSubstr("the file ends at 400h"));
  EXPECT_THAT(refusal([](ByteVector& b) { b.resize(1024 + 0x200); }), HasSubstr("too short"));
}

TEST(BzImage, file_that_is_cut_off_is_told_by_its_size) {
  ByteVector bytes = opaque();
  store<std::uint32_t>(bytes, spec::kSysSize, 0x100);
  EXPECT_TRUE(parse_with(parse_bzimage64, bytes));
  bytes.resize(bytes.size() - 16);
  EXPECT_THAT(error_text(parse_with(parse_bzimage64, bytes)),
              HasSubstr("the file is cut off: syssize at 1F4h says 1000h bytes"));
}

TEST(BzImage, kernel_inside_is_known_by_its_first_bytes) {
  EXPECT_FALSE(*has_known_payload(opaque()));
  EXPECT_TRUE(*has_known_payload(packed::bzimage(kernel())));
  for (const Compression compression : packed::kCompressions)
    EXPECT_TRUE(*has_known_payload(packed::bzimage(packed::payload(compression, kernel()))));
}

TEST(BzImage, payload_outside_of_the_file_is_refused) {
  ByteVector bytes = packed::bzimage(packed::payload(Compression::Gzip, kernel()));
  store<std::uint32_t>(bytes, spec::kPayloadLength, 0xffff'ffff);
  EXPECT_THAT(error_text(parse_with(parse_unpacked_bzimage, bytes)), HasSubstr("outside of the"));
  EXPECT_THAT(error_text(parse_with(parse_unpacked_bzimage,
                                    packed::bzimage({'B', 'Z', 'h', '9', 0, 0, 0, 0, 0}))),
              HasSubstr("42 5a 68 39"));
}

TEST(BzImage, cut_off_or_damaged_image_is_an_error_and_no_crash) {
  for (const Compression compression : packed::kCompressions) {
    SCOPED_TRACE(compression_name(compression));
    const ByteVector whole = packed::bzimage(packed::payload(compression, kernel()));
    for (std::size_t size = 0; size + 5 < whole.size(); ++size)
      EXPECT_FALSE(parse_with(parse_unpacked_bzimage,
                              {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}))
          << size;
    for (std::size_t at = 0; at < whole.size(); ++at) {
      ByteVector bad = whole;
      bad[at] = static_cast<std::uint8_t>(bad[at] ^ 0xff);
      [[maybe_unused]] const auto any = parse_with(parse_unpacked_bzimage, bad);
      [[maybe_unused]] const auto own = parse_with(parse_bzimage64, bad);
    }
  }
}

}  // namespace
}  // namespace vmm
