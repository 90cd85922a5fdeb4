#include "loader/pvh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/boot_params.h"
#include "loader/image_builder.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::HasSubstr;

TEST(Pvh, note_is_found_in_both_classes_behind_other_notes) {
  for (const ByteVector& bytes : {minimal_pvh<Class32>(), minimal_pvh<Class64>()}) {
    const auto image = parse(bytes);
    ASSERT_TRUE(image) << error_text(image);
    EXPECT_EQ(image->protocol, BootProtocol::Pvh);
    EXPECT_EQ(image->entry, 0x100008U);
    EXPECT_EQ(parse(bytes, with_protocol("elf"))->entry, 0x100010U);
  }
}

ByteVector with_note(const ByteVector& note) {
  return Elf64Builder()
      .entry(0x100010)
      .load_segment(0x100000, 0x100000, pattern(64), 64)
      .part(PT_NOTE, elf_note("GNU", 1, {}))
      .part(PT_NOTE, note)
      .build();
}

TEST(Pvh, entry_has_four_or_eight_bytes_in_any_note_segment) {
  EXPECT_EQ(find_pvh_entry(with_note(elf_note("Xen", 18, {8, 0, 16, 0}))), 0x100008U);
  EXPECT_EQ(find_pvh_entry(with_note(elf_note("Xen", 18, {8, 0, 16, 0, 0, 0, 0, 0}))), 0x100008U);
  EXPECT_EQ(find_pvh_entry(with_note(elf_note("Xen", 18, {8, 0}))), std::nullopt);
  EXPECT_EQ(find_pvh_entry(with_note(elf_note("Xen", 17, {8, 0, 16, 0}))), std::nullopt);
  EXPECT_EQ(find_pvh_entry(with_note(elf_note("Zen", 18, {8, 0, 16, 0}))), std::nullopt);
}

TEST(Pvh, entry_that_is_not_loaded_is_refused) {
  EXPECT_THAT(error_text(parse(with_note(elf_note("Xen", 18, {8, 0, 32, 0})))),
              HasSubstr("the PVH entry 200008h (note of type 18) lies in no segment"));
  EXPECT_THAT(error_text(parse(minimal_elf<Class64>(), with_protocol("pvh"))),
              HasSubstr("no PVH note"));
}

TEST(Pvh, start_info_says_what_there_is) {
  GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
  BootOptions options;
  options.command_line = "console=ttyS0";
  options.initrd = pattern(5000);
  options.modules = {{"module", "its words", pattern(10)}};
  const auto state = place_image(*parse(minimal_pvh<Class64>()), options, memory);
  ASSERT_TRUE(state) << error_text(state);
  EXPECT_EQ(state->sregs.cr0, 0x11U);
  EXPECT_EQ(state->sregs.tr.limit, 0x67U);
  const Gpa info = state->regs.rbx;
  const auto word = [&](Gpa at) { return memory.read_value<std::uint32_t>(info + at).value(); };
  const auto quad = [&](Gpa at) { return memory.read_value<std::uint64_t>(at).value(); };
  const auto text = [&](Gpa at) {
    std::string result;
    while (const char c = memory.read_value<char>(at++).value()) result += c;
    return result;
  };
  EXPECT_EQ(word(0), 0x336e'c578U);
  EXPECT_EQ(word(4), 1U);
  EXPECT_EQ(word(12), 2U);
  EXPECT_EQ(text(quad(info + 24)), "console=ttyS0");
  EXPECT_EQ(quad(info + 32), 0U);  // no tables were placed
  const Gpa map = quad(info + 40);
  const std::vector<E820Entry> expected = make_e820(memory);
  ASSERT_EQ(word(48), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(quad(map + i * 24), expected[i].base);
    EXPECT_EQ(quad(map + i * 24 + 8), expected[i].size);
    EXPECT_EQ(memory.read_value<std::uint32_t>(map + i * 24 + 16), expected[i].type);
  }
  const Gpa modules = quad(info + 16);
  ByteVector initrd(5000);
  ASSERT_TRUE(memory.read(quad(modules), initrd));
  EXPECT_EQ(initrd, pattern(5000));
  EXPECT_EQ(quad(modules + 8), 5000U);
  EXPECT_EQ(quad(modules + 16), 0U);
  EXPECT_EQ(quad(modules + 32 + 8), 10U);
  EXPECT_EQ(text(quad(modules + 32 + 16)), "its words");
}

TEST(Pvh, linux_is_known_by_its_banner) {
  EXPECT_FALSE(is_linux(*parse(minimal_pvh<Class64>())));
  ByteVector text = pattern(64);
  const std::string_view banner = "Linux version 6.1.0";
  text.insert(text.end(), banner.begin(), banner.end());
  const auto image = parse(Elf64Builder()
                               .entry(0x100010)
                               .load_segment(0x100000, 0x100000, text, text.size())
                               .part(PT_NOTE, elf_note("Xen", 18, {8, 0, 16, 0}))
                               .build());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_TRUE(is_linux(*image));
}

}  // namespace
}  // namespace vmm
