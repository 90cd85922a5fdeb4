#include "loader/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "loader/image_builder.h"
#include "vmm/base/fd.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ByteVector bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

TEST(Detect, order_is_multiboot1_then_elf_and_is_told) {
  EXPECT_EQ(parse(minimal_multiboot1<Class64>())->protocol, BootProtocol::Multiboot1);
  const auto elf = parse(minimal_elf<Class64>());
  ASSERT_TRUE(elf) << error_text(elf);
  EXPECT_THAT(elf->detection, ElementsAre("multiboot1: no header in the first 8192 bytes",
                                          "elf: 7f 45 4c 46 at offset 0"));
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
  EXPECT_THAT(starting_with("\x1f\x8b\x08"sv), HasSubstr("looks like a gzip file"));
  EXPECT_THAT(starting_with("\x28\xb5\x2f\xfd"sv), HasSubstr("looks like a zstd file"));
  EXPECT_THAT(starting_with("\xfd"
                            "7zXZ"sv),
              HasSubstr("looks like an xz file"));
  EXPECT_THAT(starting_with("MZ\x90"sv), HasSubstr("looks like a PE image"));
  EXPECT_THAT(starting_with("#!/bin/sh\n"sv), HasSubstr("looks like a script"));
  EXPECT_THAT(starting_with("\xcf\xfa\xed\xfe"sv), HasSubstr("looks like a Mach-O image"));
  EXPECT_THAT(starting_with("!<arch>\n"sv), HasSubstr("looks like an archive of object files"));
  EXPECT_THAT(starting_with("070701"sv), HasSubstr("looks like a cpio archive"));
  EXPECT_THAT(error_text(parse(bytes_of("hello\n"))), HasSubstr("looks like text"));
}

TEST(Detect, bzimage_is_told_from_the_pe_image_that_it_also_is) {
  ByteVector bytes = bytes_of("MZ");
  bytes.resize(0x1000);
  const std::string_view mark = "HdrS";
  std::copy(mark.begin(), mark.end(), bytes.begin() + 0x202);
  EXPECT_THAT(error_text(parse(bytes)),
              HasSubstr("looks like a Linux bzImage (not supported yet)"));
}

TEST(Detect, boot_sector_is_named_with_its_way_in) {
  ByteVector bytes(512, 0x90);
  bytes[510] = 0x55;
  bytes[511] = 0xaa;
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("looks like a boot sector"));
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("--boot flat"));
  EXPECT_EQ(parse(bytes, with_protocol("flat"))->entry, 0x7c00U);
}

// It would be entered in long mode and expects 32 bits.
TEST(Detect, elf_for_multiboot2_only_is_refused_with_a_way_out) {
  ByteVector text;
  append(text, std::uint32_t{0xe85250d6});
  append(text, std::uint32_t{0});
  append(text, std::uint32_t{16});
  append(text, static_cast<std::uint32_t>(0U - 0xe85250d6U - 16U));
  const ByteVector bytes =
      Elf64Builder().entry(0x100000).load_segment(0x100000, 0x100000, text, 16).build();
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("multiboot2 is not supported yet"));
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("--boot elf"));
  EXPECT_EQ(parse(bytes, with_protocol("elf"))->protocol, BootProtocol::Elf64);
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
  EXPECT_THAT(error_text(image), HasSubstr("there are multiboot1, elf and flat"));
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
  for (const char* word : {"multiboot1", "elf", "flat"})
    EXPECT_EQ(error_text(parse({}, with_protocol(word))), "kernel: the file is empty");
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
