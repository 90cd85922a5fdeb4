#include "loader/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "loader/compressed_fake.h"
#include "loader/image_builder.h"
#include "vmm/base/fd.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ByteVector bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

TEST(Detect, order_is_multiboot2_multiboot1_pvh_bzimage_elf_and_is_told) {
  EXPECT_EQ(parse(minimal_multiboot2<Class64>())->protocol, BootProtocol::Multiboot2);
  EXPECT_EQ(parse(minimal_multiboot1<Class64>())->protocol, BootProtocol::Multiboot1);
  EXPECT_EQ(parse(minimal_pvh<Class64>())->protocol, BootProtocol::Pvh);
  EXPECT_EQ(parse(testing_packed::bzimage(minimal_elf<Class64>()))->protocol,
            BootProtocol::Linux64);
  const auto elf = parse(minimal_elf<Class64>());
  ASSERT_TRUE(elf) << error_text(elf);
  EXPECT_EQ(elf->protocol, BootProtocol::Elf64);
  EXPECT_THAT(elf->detection, ElementsAre("efi: no \"MZ\" with a \"PE\" header behind it",
                                          "multiboot2: no header in the first 32768 bytes",
                                          "multiboot1: no header in the first 8192 bytes",
                                          "pvh: no ELF note of type 18 named Xen",
                                          "bzImage: no AA55h at 1FEh with \"HdrS\" at 202h",
                                          "elf: 7f 45 4c 46 at offset 0"));
}

TEST(Detect, image_with_both_multiboot_headers_boots_by_the_second_unless_told) {
  ByteVector text = multiboot1_header({.flags = 0});
  const ByteVector second = multiboot2_header({});
  text.insert(text.end(), second.begin(), second.end());
  const ByteVector bytes =
      Elf32Builder().entry(0x100000).load_segment(0x100000, 0x100000, text, text.size()).build();
  EXPECT_EQ(parse(bytes)->protocol, BootProtocol::Multiboot2);
  EXPECT_EQ(parse(bytes, with_protocol("multiboot1"))->protocol, BootProtocol::Multiboot1);
}

TEST(Detect, packed_kernel_is_unpacked_and_told) {
  for (const Compression compression : testing_packed::kCompressions) {
    SCOPED_TRACE(compression_name(compression));
    const auto image = parse(testing_packed::pack(compression, minimal_multiboot1<Class32>()));
    ASSERT_TRUE(image) << error_text(image);
    EXPECT_EQ(image->protocol, BootProtocol::Multiboot1);
    EXPECT_THAT(image->detection.front(), HasSubstr(": unpacked from "));
  }
  // A flat image is what it is.
  const ByteVector packed = testing_packed::gzip(minimal_elf<Class64>());
  EXPECT_EQ(parse(packed, with_protocol("flat"))->bytes, packed);
}

TEST(Detect, bomb_is_refused) {
  const ByteVector bomb = testing_packed::gzip(ByteVector(80U << 20));
  EXPECT_THAT(error_text(parse(bomb)), HasSubstr("unpacks to more than "));
}

TEST(Detect, bzimage_without_a_kernel_that_is_known_starts_itself) {
  const auto image = parse(testing_packed::bzimage(pattern(0x1000)));
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->protocol, BootProtocol::Linux64);
  EXPECT_EQ(image->entry, 0x100'0200U);
  EXPECT_THAT(image->detection.back(), HasSubstr("bzImage: started by its own entry"));
}

TEST(Detect, bzimage_can_be_started_in_each_way) {
  ByteVector bytes =
      testing_packed::bzimage(testing_packed::payload(Compression::Xz, minimal_pvh<Class64>()));
  bytes.resize(bytes.size() + 0x400);
  EXPECT_EQ(parse(bytes)->entry, 0x100010U);
  EXPECT_EQ(parse(bytes, with_protocol("pvh"))->entry, 0x100008U);
  const auto own = parse(bytes, with_protocol("linux64"));
  ASSERT_TRUE(own) << error_text(own);
  EXPECT_EQ(own->protocol, BootProtocol::Linux64);
  EXPECT_EQ(parse(bytes, with_protocol("linux32"))->protocol, BootProtocol::Linux32);
  EXPECT_THAT(error_text(parse(minimal_pvh<Class64>(), with_protocol("linux64"))),
              HasSubstr("this is no bzImage"));
}

TEST(Detect, refusal_names_what_was_looked_for_and_what_is_there) {
  const auto image = parse({0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4, 5});
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(image), AllOf(HasSubstr("kernel: unknown kind of image"),
                                       HasSubstr("multiboot1: no header in the first 8192 bytes"),
                                       HasSubstr("elf: no 7f 45 4c 46 at offset 0"),
                                       HasSubstr("it starts with de ad be ef 00 01 02 03")));
  EXPECT_THAT(hint_text(image), HasSubstr("--flat ADDR"));
}

TEST(Detect, well_known_files_are_named) {
  const auto starting_with = [](std::string_view start) {
    ByteVector bytes = bytes_of(start);
    bytes.resize(0x1000);
    return error_text(parse(bytes));
  };
  using namespace std::string_view_literals;
  EXPECT_THAT(starting_with("\x1f\x8b\x08"sv), HasSubstr("the gzip data is damaged"));
  EXPECT_THAT(starting_with("\x28\xb5\x2f\xfd"sv), HasSubstr("the zstd data is damaged"));
  EXPECT_THAT(starting_with("\xfd"
                            "7zXZ"sv),
              HasSubstr("the xz data is damaged"));
  EXPECT_THAT(starting_with("MZ\x90"sv), HasSubstr("looks like a PE image, but no UEFI one"));
  EXPECT_THAT(starting_with("#!/bin/sh\n"sv), HasSubstr("looks like a script"));
  EXPECT_THAT(starting_with("\xcf\xfa\xed\xfe"sv), HasSubstr("looks like a Mach-O image"));
  EXPECT_THAT(starting_with("!<arch>\n"sv), HasSubstr("looks like an archive of object files"));
  EXPECT_THAT(starting_with("070701"sv), HasSubstr("looks like a cpio archive"));
  EXPECT_THAT(error_text(parse(bytes_of("hello\n"))), HasSubstr("looks like text"));
}

TEST(Detect, bzimage_is_told_from_the_pe_image_that_it_also_is) {
  ByteVector bytes = testing_packed::bzimage(minimal_elf<Class64>());
  bytes[0] = 'M';
  bytes[1] = 'Z';
  EXPECT_THAT(error_text(parse(bytes, with_protocol("elf"))),
              HasSubstr("looks like a Linux bzImage"));
  EXPECT_TRUE(parse(bytes));
}

TEST(Detect, boot_sector_is_named_with_its_way_in) {
  ByteVector bytes(512, 0x90);
  bytes[510] = 0x55;
  bytes[511] = 0xaa;
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("looks like a boot sector"));
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("--boot flat"));
  EXPECT_EQ(parse(bytes, with_protocol("flat"))->entry, 0x7c00U);
}

TEST(Detect, protocol_can_be_forced_in_any_case_of_letters) {
  const ByteVector bytes = minimal_multiboot1<Class64>();
  EXPECT_EQ(parse(bytes, with_protocol("ELF"))->protocol, BootProtocol::Elf64);
  EXPECT_EQ(parse(bytes, with_protocol("Multiboot1"))->protocol, BootProtocol::Multiboot1);
  EXPECT_EQ(parse(bytes, with_protocol("flat"))->protocol, BootProtocol::Flat);
}

TEST(Detect, forced_protocol_that_does_not_fit_is_an_image_error) {
  const auto no_header = parse(minimal_elf<Class64>(), with_protocol("multiboot1"));
  ASSERT_FALSE(no_header);
  EXPECT_EQ(no_header.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(no_header), HasSubstr("--boot multiboot1: no multiboot1 header"));
  EXPECT_THAT(error_text(no_header), HasSubstr("looks like an ELF file"));
  const auto no_elf = parse(minimal_kludge(kKludge), with_protocol("elf"));
  ASSERT_FALSE(no_elf);
  EXPECT_EQ(no_elf.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(no_elf), HasSubstr("--boot elf: this is no ELF file; it starts with"));
}

TEST(Detect, unknown_protocol_is_a_usage_error_with_the_list) {
  const auto image = parse(minimal_elf<Class64>(), with_protocol("multiboot"));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(error_text(image),
              HasSubstr("there are multiboot1, multiboot2, pvh, linux64, linux32, elf, flat"));
  EXPECT_THAT(hint_text(image), HasSubstr("did you mean multiboot1?"));
}

TEST(Detect, flat_address_alone_means_flat) {
  BootOptions options;
  options.flat_address = 0x8000;
  const auto image = parse(minimal_elf<Class64>(), options);
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->protocol, BootProtocol::Flat);
  EXPECT_EQ(image->entry, 0x8000U);
}

TEST(Detect, flat_address_with_another_protocol_or_out_of_reach_is_a_usage_error) {
  BootOptions options = with_protocol("elf");
  options.flat_address = 0x8000;
  EXPECT_EQ(parse(minimal_elf<Class64>(), options).error().kind(), ErrorKind::Usage);
  options = with_protocol("flat");
  options.flat_address = 0x100000;
  const auto image = parse({1, 2, 3}, options);
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(error_text(image), HasSubstr("--flat 100000h"));
  options.flat_address = 0xfffff;
  EXPECT_TRUE(parse({1, 2, 3}, options));
}

TEST(Detect, empty_file_is_an_image_error_for_every_protocol) {
  for (const std::string_view word : boot_protocol_words())
    EXPECT_EQ(error_text(parse({}, with_protocol(std::string(word)))), "kernel: the file is empty");
  EXPECT_EQ(parse({}).error().kind(), ErrorKind::Image);
}

TEST(LoadImage, missing_file_and_directory_are_image_errors) {
  const auto missing = load_image("/nonexistent/kernel", {});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(missing), AllOf(HasSubstr("/nonexistent/kernel"), HasSubstr("ENOENT")));
  const auto directory = load_image("/", {});
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(directory), HasSubstr("is a directory"));
}

TEST(LoadImage, file_is_read_and_named) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("vmm-loader-" + std::to_string(::getpid()));
  ASSERT_TRUE(write_file(path, minimal_elf<Class64>()));
  const auto image = load_image(path, {});
  EXPECT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->path, path);
  // A name that plays with the terminal is made harmless in errors.
  ASSERT_TRUE(write_file(path, bytes_of("")));
  EXPECT_EQ(error_text(load_image(path, {})), path + ": the file is empty");
  std::filesystem::remove(path);
  EXPECT_THAT(error_text(parse_image("a\x1b[2J", {}, {})), HasSubstr("a\\x1b[2J: the file"));
}

}  // namespace
}  // namespace vmm
