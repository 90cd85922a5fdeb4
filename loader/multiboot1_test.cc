#include "loader/multiboot1.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/image_builder.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::HasSubstr;

TEST(Multiboot1, header_is_found_at_any_aligned_place_of_the_window) {
  for (std::size_t at = 0; at + 12 <= kMultiboot1Window; at += 4) {
    ByteVector bytes(kMultiboot1Window + 64);
    const ByteVector header = multiboot1_header({.flags = 3});
    std::copy_n(header.begin(), 12, bytes.begin() + static_cast<std::ptrdiff_t>(at));
    const Multiboot1Search found = find_multiboot1(bytes);
    ASSERT_EQ(found.header, at);
    ASSERT_EQ(found.flags, 3U);
  }
}

TEST(Multiboot1, header_that_is_unaligned_or_not_wholly_in_the_window_is_not_found) {
  for (const std::size_t at : {std::size_t{1}, std::size_t{2}, std::size_t{102},
                               kMultiboot1Window - 8, kMultiboot1Window}) {
    ByteVector bytes(kMultiboot1Window + 64);
    const ByteVector header = multiboot1_header({.flags = 3});
    std::copy_n(header.begin(), 12, bytes.begin() + static_cast<std::ptrdiff_t>(at));
    EXPECT_EQ(find_multiboot1(bytes).header, std::nullopt) << at;
  }
  ByteVector cut = multiboot1_header({});
  cut.resize(11);
  EXPECT_EQ(find_multiboot1(cut).header, std::nullopt);
}

TEST(Multiboot1, good_header_behind_a_bad_one_is_used) {
  ByteVector bytes = multiboot1_header({});
  bytes[8] ^= 1;
  const ByteVector good = multiboot1_header({.flags = 1});
  bytes.insert(bytes.end(), good.begin(), good.end());
  EXPECT_EQ(find_multiboot1(bytes).header, 48U);
}

TEST(Multiboot1, elf_of_both_classes_is_accepted) {
  for (const ByteVector& bytes : {minimal_multiboot1<Class32>(), minimal_multiboot1<Class64>()}) {
    const auto image = parse(bytes);
    ASSERT_TRUE(image) << error_text(image);
    EXPECT_EQ(image->protocol, BootProtocol::Multiboot1);
    EXPECT_EQ(image->entry, 0x100030U);
    EXPECT_EQ(image->multiboot_flags, 3U);
    EXPECT_EQ(image->segments.size(), 2U);
    EXPECT_THAT(image->detection.back(), HasSubstr("multiboot1: header at offset"));
  }
}

TEST(Multiboot1, video_and_optional_flags_are_accepted) {
  EXPECT_TRUE(parse(minimal_multiboot1<Class32>(7)));
  EXPECT_TRUE(parse(minimal_multiboot1<Class32>(0xfffe'0000)));
}

TEST(Multiboot1, unknown_required_flags_are_refused_by_number) {
  for (unsigned flag = 3; flag < 16; ++flag)
    EXPECT_THAT(error_text(parse(minimal_multiboot1<Class32>(1U << flag))),
                HasSubstr("require bit " + std::to_string(flag) + ","));
  EXPECT_THAT(error_text(parse(minimal_multiboot1<Class32>(0x8008))),
              HasSubstr("flags 8008h require bit 3, 15,"));
}

TEST(Multiboot1, bad_checksum_is_an_error_with_a_way_out) {
  ByteVector bytes = minimal_multiboot1<Class32>();
  const std::size_t header = *find_multiboot1(bytes).header;
  bytes[header + 8] = static_cast<std::uint8_t>(bytes[header + 8] + 2);
  for (const BootOptions& options : {BootOptions{}, with_protocol("multiboot1")}) {
    const auto image = parse(bytes, options);
    EXPECT_THAT(error_text(image), HasSubstr("has a bad checksum"));
    EXPECT_THAT(error_text(image), HasSubstr("give 2h"));
  }
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("--boot elf"));
  EXPECT_EQ(parse(bytes, with_protocol("elf"))->protocol, BootProtocol::Elf32);
}

TEST(Multiboot1, header_without_elf_and_without_address_fields_is_refused) {
  ByteVector bytes = multiboot1_header({.flags = 3});
  EXPECT_THAT(error_text(parse(bytes)),
              HasSubstr("it has no address fields, so the file must be ELF"));
}

TEST(Multiboot1, broken_elf_is_named) {
  ByteVector bytes = minimal_multiboot1<Class32>();
  edit<Elf32_Ehdr>(bytes, 0, [](auto& h) { h.e_entry = 1; });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("multiboot1 image: "));
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("lies in no segment"));
}

TEST(Multiboot1, elf64_segment_above_4g_is_refused) {
  ByteVector bytes = minimal_multiboot1<Class64>();
  edit<Elf64_Phdr>(bytes, Elf64Builder::program_header(1),
                   [](auto& p) { p.p_paddr = 4_GiB - 0xfff; });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("segment 1 at fffff001h-100000000h reaches"));
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("AT()"));
}

TEST(Multiboot1Kludge, address_fields_say_what_is_loaded) {
  const ByteVector bytes = minimal_kludge(kKludge);
  const auto image = parse(bytes);
  ASSERT_TRUE(image) << error_text(image);
  ASSERT_EQ(image->segments.size(), 1U);
  const Segment& segment = image->segments[0];
  EXPECT_EQ(segment.gpa, 0x100000U);
  EXPECT_EQ(segment.file_offset, 0U);
  EXPECT_EQ(segment.file_size, bytes.size());
  EXPECT_EQ(segment.memory_size, 0x1000U);
  EXPECT_EQ(image->entry, 0x100040U);
}

TEST(Multiboot1Kludge, load_may_begin_inside_the_file_and_end_before_it) {
  Multiboot1Fields fields = kKludge;
  fields.load_addr = 0x100010;
  fields.load_end_addr = 0x100048;
  fields.bss_end_addr = 0;
  const auto image = parse(minimal_kludge(fields));
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->segments[0].file_offset, 0x10U);
  EXPECT_EQ(image->segments[0].file_size, 0x38U);
  EXPECT_EQ(image->segments[0].memory_size, 0x38U);
}

TEST(Multiboot1Kludge, wins_over_elf) {
  ByteVector text = multiboot1_header({.flags = 1U << 16,
                                       .header_addr = 0x200000,
                                       .load_addr = 0x200000,
                                       .load_end_addr = 0x200040,
                                       .bss_end_addr = 0,
                                       .entry_addr = 0x200030});
  text.resize(0x80, 0x90);
  const auto image =
      parse(Elf32Builder().entry(0x100000).load_segment(0x100000, 0x100000, text, 0x80).build());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->entry, 0x200030U);
  ASSERT_EQ(image->segments.size(), 1U);
  EXPECT_EQ(image->segments[0].gpa, 0x200000U);
}

std::string kludge_error(void (*change)(Multiboot1Fields&)) {
  Multiboot1Fields fields = kKludge;
  change(fields);
  return error_text(parse(minimal_kludge(fields)));
}

TEST(Multiboot1Kludge, fields_that_contradict_each_other_are_refused) {
  EXPECT_THAT(kludge_error([](auto& f) { f.header_addr = 0xfffff; }),
              HasSubstr("header_addr fffffh lies below load_addr 100000h"));
  EXPECT_THAT(kludge_error([](auto& f) { f.header_addr = 0x100021; }),
              HasSubstr("want 21h bytes before the header, which is at offset 20h"));
  EXPECT_THAT(kludge_error([](auto& f) { f.load_end_addr = 0x100000; }),
              HasSubstr("load_end_addr 100000h is not above load_addr 100000h"));
  EXPECT_THAT(
      kludge_error([](auto& f) { f.load_end_addr = 0x100051; }),
      HasSubstr("load_end_addr 100051h wants 51h bytes from offset 0h; the file ends at 50h"));
  EXPECT_THAT(kludge_error([](auto& f) { f.bss_end_addr = 0x10004f; }),
              HasSubstr("bss_end_addr 10004fh lies below the end of the data at 100050h"));
  EXPECT_THAT(kludge_error([](auto& f) { f.entry_addr = 0xfffff; }),
              HasSubstr("entry_addr fffffh lies outside of what is loaded, 100000h-100fffh"));
  EXPECT_THAT(kludge_error([](auto& f) { f.entry_addr = 0x101000; }), HasSubstr("entry_addr"));
}

TEST(Multiboot1Kludge, wrapping_fields_are_refused) {
  // Loaded right below 4 GiB, the file would go on at address 0.
  EXPECT_THAT(kludge_error([](auto& f) {
                f.load_addr = 0xffff'ffc0;
                f.header_addr = 0xffff'ffe0;
                f.bss_end_addr = 0;
                f.entry_addr = 0xffff'fff0;
              }),
              HasSubstr("50h bytes at load_addr ffffffc0h reach beyond 4 GiB"));
  EXPECT_THAT(kludge_error([](auto& f) { f.header_addr = 0xffff'ffff; }), HasSubstr("header_addr"));
  EXPECT_THAT(kludge_error([](auto& f) { f.load_addr = 0xffff'ffff; }), HasSubstr("header_addr"));
  EXPECT_THAT(kludge_error([](auto& f) { f.load_end_addr = 0xffff'ffff; }),
              HasSubstr("load_end_addr ffffffffh wants ffefffffh bytes"));
  EXPECT_THAT(kludge_error([](auto& f) { f.load_end_addr = 1; }), HasSubstr("load_end_addr 1h"));
}

TEST(Multiboot1Kludge, fields_beyond_the_window_or_the_file_are_refused) {
  const ByteVector at_the_end = minimal_kludge(kKludge, kMultiboot1Window - 16);
  EXPECT_THAT(error_text(parse(at_the_end)), HasSubstr("flags bit 16 promises address fields"));
  ByteVector cut = minimal_kludge(kKludge);
  cut.resize(32 + 31);
  EXPECT_THAT(error_text(parse(cut)), HasSubstr("flags bit 16 promises address fields"));
}

// The information structure, read as a kernel reads it: by the specification's offsets.
class Multiboot1Info : public ::testing::Test {
 protected:
  static constexpr Gpa kBase = 0x94100;
  static constexpr Gpa kLowEnd = 128_MiB;

  void make(const std::string& command_line, std::vector<PlacedModule> modules,
            GuestSections sections = {}) {
    map_ = {{0, 0x9fc00, 1}, {0x100000, kLowEnd - 0x100000, 1}, {4_GiB, 1_GiB, 1}};
    BootFacts facts;
    facts.command_line = command_line;
    facts.modules = std::move(modules);
    facts.map = map_;
    facts.low_end = kLowEnd;
    facts.sections = std::move(sections);
    info_ = make_multiboot1_info(facts, kBase);
  }
  std::uint32_t word(std::size_t offset) const { return load<std::uint32_t>(info_, offset); }
  std::string text(std::uint32_t address) const {
    EXPECT_GE(address, kBase + 116);
    EXPECT_LT(address, kBase + info_.size());
    std::string result;
    for (std::size_t i = address - kBase; info_.at(i) != 0; ++i)
      result += static_cast<char>(info_[i]);
    return result;
  }

  std::vector<E820Entry> map_;
  ByteVector info_;
};

TEST_F(Multiboot1Info, says_what_it_has_and_nothing_else) {
  make("kernel", {});
  EXPECT_EQ(word(0), 0x124dU);
  for (const std::size_t absent : {12U, 28U, 32U, 36U, 40U, 52U, 56U, 60U, 68U, 72U, 76U, 80U, 84U})
    EXPECT_EQ(word(absent), 0U) << absent;
}

TEST_F(Multiboot1Info, section_headers_are_flag_5_with_count_size_address_and_names) {
  const ByteVector headers(2 * 40, 0xa5);
  make("kernel", {}, {.headers = headers, .count = 2, .entry_size = 40, .names = 1});
  EXPECT_EQ(word(0), 0x124dU | 1U << 5);
  EXPECT_EQ(word(28), 2U);
  EXPECT_EQ(word(32), 40U);
  EXPECT_EQ(word(40), 1U);
  const std::size_t at = word(36) - kBase;
  ASSERT_EQ(at + headers.size(), info_.size());
  EXPECT_TRUE(std::equal(headers.begin(), headers.end(), info_.end() - 80));
}

TEST_F(Multiboot1Info, memory_sizes_are_in_kib) {
  make("kernel", {});
  EXPECT_EQ(word(4), 639U);
  EXPECT_EQ(word(8), 127U * 1024);
}

TEST_F(Multiboot1Info, strings_can_be_read_through_their_pointers) {
  make("kernel --flag", {});
  EXPECT_EQ(text(word(16)), "kernel --flag");
  EXPECT_EQ(text(word(64)), "vmm");
  EXPECT_EQ(word(20), 0U);
}

TEST_F(Multiboot1Info, modules_have_start_end_and_string) {
  make("kernel", {{0x200000, 0x200010, "env a"}, {0x201000, 0x201000, "empty"}});
  ASSERT_EQ(word(20), 2U);
  const std::size_t list = word(24) - kBase;
  EXPECT_EQ(word(list), 0x200000U);
  EXPECT_EQ(word(list + 4), 0x200010U);
  EXPECT_EQ(text(word(list + 8)), "env a");
  EXPECT_EQ(word(list + 12), 0U);
  EXPECT_EQ(word(list + 16), 0x201000U);
  EXPECT_EQ(word(list + 20), 0x201000U);
  EXPECT_EQ(text(word(list + 24)), "empty");
}

TEST_F(Multiboot1Info, memory_map_is_walked_by_size_plus_four) {
  make("kernel", {});
  std::size_t at = word(48) - kBase;
  const std::size_t end = at + word(44);
  std::vector<E820Entry> read;
  while (at < end) {
    read.push_back({load<std::uint64_t>(info_, at + 4), load<std::uint64_t>(info_, at + 12),
                    load<std::uint32_t>(info_, at + 20)});
    at += word(at) + 4;
  }
  EXPECT_EQ(at, end);
  EXPECT_EQ(read, map_);
}

TEST_F(Multiboot1Info, screen_is_ega_text) {
  make("kernel", {});
  EXPECT_EQ(load<std::uint64_t>(info_, 88), 0xb8000U);
  EXPECT_EQ(word(96), 160U);
  EXPECT_EQ(word(100), 80U);
  EXPECT_EQ(word(104), 25U);
  EXPECT_EQ(info_[108], 16U);
  EXPECT_EQ(info_[109], 2U);
}

}  // namespace
}  // namespace vmm
