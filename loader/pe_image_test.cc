#include "loader/pe_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/compressed_fake.h"
#include "loader/pe_builder.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(PeImage, uefi_image_is_recognised_and_has_no_segments) {
  const auto image = parse(minimal_efi());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->protocol, BootProtocol::Efi);
  EXPECT_EQ(image->entry, 0x1000U);
  EXPECT_TRUE(image->segments.empty());
  EXPECT_EQ(image->detection.back(), "efi: UEFI application for x86-64");
}

TEST(PeImage, drivers_are_uefi_images_too) {
  for (const std::uint16_t subsystem : {std::uint16_t{11}, std::uint16_t{12}}) {
    const auto image = parse(minimal_efi({.subsystem = subsystem}));
    ASSERT_TRUE(image) << error_text(image);
    EXPECT_THAT(image->detection.back(), HasSubstr("driver for x86-64"));
  }
}

TEST(PeImage, without_firmware_it_is_refused_in_words) {
  const auto image = parse(minimal_efi());
  ASSERT_TRUE(image) << error_text(image);
  GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
  const auto state = place_image(*image, {}, memory);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().kind(), ErrorKind::Image);
  EXPECT_THAT(state.error().text(), HasSubstr("only firmware can start"));
}

TEST(PeImage, another_machine_is_named) {
  const auto arm = parse(minimal_efi({.machine = 0xaa64}));
  EXPECT_THAT(error_text(arm), HasSubstr("UEFI application for ARM64 (aa64h)"));
  EXPECT_THAT(hint_text(arm), HasSubstr("x86_64-unknown-uefi"));
  EXPECT_THAT(error_text(parse(minimal_efi(
                  {.machine = spec::IMAGE_FILE_MACHINE_I386, .magic = 0x10b, .subsystem = 11}))),
              HasSubstr("UEFI boot service driver for 32-bit x86 (14ch)"));
  EXPECT_THAT(error_text(parse(minimal_efi({.machine = 0x1234}))), HasSubstr("machine 1234h"));
  EXPECT_THAT(error_text(parse(minimal_efi({.magic = 0x10b}))), HasSubstr("PE32 (10Bh)"));
}

TEST(PeImage, windows_program_is_no_kernel) {
  EXPECT_THAT(error_text(parse(minimal_efi({.subsystem = 3}))),
              AllOf(HasSubstr("unknown kind of image"),
                    HasSubstr("efi: a PE image of subsystem 3 (Windows console program)")));
}

TEST(PeImage, damage_is_named) {
  EXPECT_THAT(error_text(parse(minimal_efi({.entry = 0x2000}))),
              HasSubstr("the entry point 2000h lies outside of the image"));
  EXPECT_THAT(
      error_text(parse(minimal_efi({.section_size = 0x41}))),
      HasSubstr("section 0 has bytes 200h-240h of the file, which has 240h: it is cut off"));
  EXPECT_THAT(error_text(parse(minimal_efi({.section_offset = 0xffff'ffff}))),
              HasSubstr("cut off"));
  ByteVector many = minimal_efi();
  store<std::uint16_t>(many, 0x86, 0xffff);
  EXPECT_THAT(error_text(parse(many)), HasSubstr("the section table has 65535 entries"));
}

TEST(PeImage, bzimage_with_an_efi_stub_stays_a_bzimage) {
  ByteVector bytes = testing_packed::bzimage(minimal_elf<Class64>());
  const ByteVector efi = minimal_efi();
  // The headers lie before the setup header, at 1F1h.
  std::copy(efi.begin(), efi.begin() + 0x1e0, bytes.begin());
  ASSERT_TRUE(find_pe_headers(bytes));
  const auto image = parse(bytes);
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->protocol, BootProtocol::Linux64);
  EXPECT_THAT(image->detection.front(), HasSubstr("a bzImage too"));
}

// xen.efi is made of the same objects as xen.
TEST(PeImage, multiboot_header_inside_does_not_make_it_a_multiboot_kernel) {
  ByteVector bytes = minimal_efi({.section_size = 0x80});
  const ByteVector header = multiboot1_header({.flags = 3});
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.resize(0x280);
  const auto image = parse(bytes);
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->protocol, BootProtocol::Efi);
  EXPECT_THAT(error_text(parse(bytes, with_protocol("multiboot1"))), HasSubstr("kernel: "));
}

}  // namespace
}  // namespace vmm
