#include "loader/multiboot2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "loader/image_builder.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::HasSubstr;

ByteVector join(std::initializer_list<ByteVector> parts) {
  ByteVector all;
  for (const ByteVector& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Result<LoadedImage> with_tags(const ByteVector& tags) {
  return parse(minimal_multiboot2<Class64>(tags));
}

TEST(Multiboot2, header_is_found_at_any_aligned_place_of_the_window) {
  const ByteVector header = multiboot2_header({});
  for (std::size_t at = 0; at + header.size() <= kMultiboot2Window; at += 8) {
    ByteVector bytes(kMultiboot2Window + 64);
    std::copy(header.begin(), header.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
    ASSERT_EQ(find_multiboot2(bytes).header, at);
  }
}

TEST(Multiboot2, header_at_the_last_possible_offset_that_runs_over_the_window_is_refused) {
  ByteVector bytes(kMultiboot2Window + 64);
  const ByteVector header = multiboot2_header({});
  const auto at = kMultiboot2Window - 16;
  std::copy(header.begin(), header.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("beyond the file or its first 32768 bytes"));
}

TEST(Multiboot2, elf_of_both_classes_is_accepted) {
  for (const ByteVector& bytes : {minimal_multiboot2<Class32>(), minimal_multiboot2<Class64>()}) {
    const auto image = parse(bytes);
    ASSERT_TRUE(image) << error_text(image);
    EXPECT_EQ(image->protocol, BootProtocol::Multiboot2);
    EXPECT_EQ(image->entry, 0x200018U);
    EXPECT_FALSE(image->relocation);
  }
}

TEST(Multiboot2, bad_checksum_and_other_architecture_are_named) {
  ByteVector bytes = minimal_multiboot2<Class64>();
  const std::size_t at = *find_multiboot2(bytes).header;
  bytes[at + 12] ^= 1;
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("bad checksum"));
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("--boot elf"));
  ByteVector mips = multiboot2_header({}, 4);
  mips.resize(100);
  EXPECT_THAT(error_text(parse(mips)), HasSubstr("architecture 4"));
}

TEST(Multiboot2, required_tags_that_cannot_be_honoured_are_refused_and_optional_ones_passed_over) {
  EXPECT_THAT(error_text(with_tags(multiboot2_tag(77, {}))), HasSubstr("requires tag 77"));
  EXPECT_TRUE(with_tags(multiboot2_tag(77, {}, true)));
  EXPECT_THAT(error_text(with_tags(multiboot2_tag(7, {}))), HasSubstr("EFI boot services"));
  EXPECT_TRUE(with_tags(multiboot2_tag(7, {}, true)));
  EXPECT_THAT(error_text(with_tags(multiboot2_tag(1, {6, 11}))),
              HasSubstr("information of type 11"));
  EXPECT_TRUE(with_tags(multiboot2_tag(1, {6, 11}, true)));
  EXPECT_TRUE(with_tags(multiboot2_tag(1, {1, 2, 3, 4, 6, 8, 9, 14, 15, 21})));
  EXPECT_THAT(error_text(with_tags(multiboot2_tag(4, {1}))), HasSubstr("graphical console"));
  EXPECT_TRUE(with_tags(multiboot2_tag(4, {3})));
  EXPECT_TRUE(with_tags(multiboot2_tag(5, {1024, 768, 32})));
  EXPECT_TRUE(with_tags(multiboot2_tag(6, {})));
}

TEST(Multiboot2, tags_that_are_damaged_or_have_no_end_are_refused) {
  ByteVector small = multiboot2_tag(6, {});
  store<std::uint32_t>(small, 4, 7);
  EXPECT_THAT(error_text(with_tags(small)), HasSubstr("tag of type 6 at offset 10h"));
  ByteVector large = multiboot2_tag(6, {});
  store<std::uint32_t>(large, 4, 0xffff'fff8);
  EXPECT_THAT(error_text(with_tags(large)), HasSubstr("has 4294967288 bytes"));
  EXPECT_THAT(error_text(with_tags(multiboot2_tag(10, {1, 2}))), HasSubstr("24 are needed"));
  ByteVector endless = minimal_multiboot2<Class64>();
  const std::size_t at = *find_multiboot2(endless).header;
  store<std::uint16_t>(endless, at + 16, 6);
  EXPECT_THAT(error_text(parse(endless)), HasSubstr("no tag of type 0"));
}

TEST(Multiboot2, entry_tag_wins_over_the_elf_entry_and_must_be_loaded) {
  EXPECT_EQ(with_tags(multiboot2_tag(3, {0x200004}))->entry, 0x200004U);
  EXPECT_THAT(error_text(with_tags(multiboot2_tag(3, {0x300000}))), HasSubstr("lies outside"));
}

TEST(Multiboot2, address_tag_loads_files_that_are_no_elf) {
  const auto build = [](std::uint32_t load_addr) {
    ByteVector bytes = pattern(32);
    const ByteVector header = multiboot2_header(join(
        {multiboot2_tag(2, {0x100020, load_addr, 0, 0x102000}), multiboot2_tag(3, {0x100060})}));
    bytes.insert(bytes.end(), header.begin(), header.end());
    bytes.resize(bytes.size() + 32, 0x90);
    return bytes;
  };
  for (const std::uint32_t load_addr : {0x100000U, 0xffff'ffffU}) {
    const auto image = parse(build(load_addr));
    ASSERT_TRUE(image) << error_text(image);
    EXPECT_EQ(image->entry, 0x100060U);
    EXPECT_EQ(image->segments[0].gpa, 0x100000U);
    EXPECT_EQ(image->segments[0].file_offset, 0U);
    EXPECT_EQ(image->segments[0].end(), 0x102000U);
  }
  ByteVector no_entry = multiboot2_header(multiboot2_tag(2, {0x100000, 0x100000, 0, 0}));
  EXPECT_THAT(error_text(parse(no_entry)), HasSubstr("no entry address tag"));
}

TEST(Multiboot2, relocatable_tag_is_read_and_checked) {
  const auto image = with_tags(multiboot2_tag(10, {0x200000, 0xffff'ffff, 0x200000, 2}, true));
  ASSERT_TRUE(image) << error_text(image);
  ASSERT_TRUE(image->relocation);
  EXPECT_EQ(image->relocation->min, 0x200000U);
  EXPECT_EQ(image->relocation->max, 0xffff'ffffU);
  EXPECT_EQ(image->relocation->alignment, 0x200000U);
  EXPECT_EQ(image->relocation->preference, Relocation::Preference::High);
  EXPECT_FALSE(with_tags(multiboot2_tag(10, {0x200000, 0x1000, 0x1000, 0})));
  EXPECT_FALSE(with_tags(multiboot2_tag(10, {0, 0x1000000, 0, 0})));
  EXPECT_FALSE(with_tags(multiboot2_tag(10, {0, 0x1000000, 8, 3})));
}

// Where a kernel finds itself and what tag 21 says.
struct Moved {
  Gpa rip = 0;
  std::optional<Gpa> load_base;
};
std::map<std::uint32_t, ByteVector> tags_in(const GuestMemory& memory, Gpa info) {
  std::map<std::uint32_t, ByteVector> tags;
  const auto total = *memory.read_value<std::uint32_t>(info);
  EXPECT_EQ(info % 8, 0U);
  for (Gpa at = info + 8; at + 8 <= info + total;) {
    const auto type = *memory.read_value<std::uint32_t>(at);
    const auto size = *memory.read_value<std::uint32_t>(at + 4);
    EXPECT_GE(size, 8U);
    ByteVector content(size - 8);
    EXPECT_TRUE(content.empty() || memory.read(at + 8, content));
    if (type == 0) {
      EXPECT_EQ(at + 8, info + total);
      break;
    }
    tags.emplace(type, std::move(content));
    at = align_up(at + size, 8);
  }
  return tags;
}

Moved move(const std::vector<std::uint32_t>& relocatable, std::uint64_t memory_size = 16_MiB) {
  GuestMemory memory = std::move(GuestMemory::create(memory_size)).value();
  const auto image = with_tags(multiboot2_tag(10, relocatable));
  const auto state = place_image(*image, {}, memory);
  EXPECT_TRUE(state) << error_text(state);
  if (!state) return {};
  Moved moved;
  moved.rip = state->regs.rip;
  const auto tags = tags_in(memory, state->regs.rbx);
  if (const auto base = tags.find(21); base != tags.end())
    moved.load_base = load<std::uint32_t>(base->second);
  return moved;
}

TEST(Multiboot2, kernel_is_moved_to_where_it_prefers_to_be) {
  // As linked, lowest, highest; the kernel has 3000h bytes.
  EXPECT_EQ(move({0, 0xffff'ffff, 0x1000, 0}).rip, 0x200020U + 16);
  EXPECT_EQ(move({0, 0xffff'ffff, 0x1000, 1}).load_base, 0x100000U);
  EXPECT_EQ(move({0x180000, 0xffff'ffff, 0x100000, 1}).load_base, 0x200000U);
  const Moved high = move({0, 0xffff'ffff, 0x1000, 2});
  EXPECT_EQ(high.load_base, 16_MiB - 0x3000);
  EXPECT_EQ(high.rip, 16_MiB - 0x3000 + 0x30);
  EXPECT_EQ(move({0, 0x7f'ffff, 0x200000, 2}).load_base, 0x600000U);
  // Where the linked address does not fit the wish.
  EXPECT_EQ(move({0x300000, 0xffff'ffff, 0x1000, 0}).load_base, 0x300000U);
}

TEST(Multiboot2, kernel_that_finds_no_place_is_refused) {
  GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
  const auto image = with_tags(multiboot2_tag(10, {0x4000'0000, 0xffff'ffff, 0x1000, 1}));
  const auto state = place_image(*image, {}, memory);
  ASSERT_FALSE(state);
  EXPECT_THAT(error_text(state), HasSubstr("wants to stand between 40000000h and ffffffffh"));
  EXPECT_THAT(hint_text(state), HasSubstr("--mem 1025M"));
}

TEST(Multiboot2, information_has_every_tag_that_a_loader_without_firmware_can_give) {
  GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
  const ByteVector rsdp = [] {
    ByteVector bytes(36, 7);
    const std::string_view signature = "RSD PTR ";
    std::copy(signature.begin(), signature.end(), bytes.begin());
    return bytes;
  }();
  ASSERT_TRUE(memory.write(0xe0000, rsdp));
  BootOptions options;
  options.command_line = "root=/dev/null";
  options.modules = {{"initrd", "arguments", pattern(100)}};
  const auto image = with_tags({});
  const auto state = place_image(*image, options, memory);
  ASSERT_TRUE(state) << error_text(state);
  EXPECT_EQ(state->regs.rax, 0x36d7'6289U);
  const auto tags = tags_in(memory, state->regs.rbx);
  const auto text = [&](std::uint32_t type, std::size_t at = 0) {
    const ByteVector& bytes = tags.at(type);
    return std::string(reinterpret_cast<const char*>(bytes.data()) + at);
  };
  EXPECT_EQ(text(1), "kernel root=/dev/null");
  EXPECT_EQ(text(2), "vmm");
  const auto start = load<std::uint32_t>(tags.at(3), 0);
  EXPECT_EQ(load<std::uint32_t>(tags.at(3), 4), start + 100);
  EXPECT_EQ(text(3, 8), "initrd arguments");
  ByteVector module(100);
  ASSERT_TRUE(memory.read(start, module));
  EXPECT_EQ(module, pattern(100));
  EXPECT_EQ(load<std::uint32_t>(tags.at(4), 0), 639U);
  EXPECT_EQ(load<std::uint32_t>(tags.at(4), 4), 15U * 1024);
  EXPECT_EQ(load<std::uint32_t>(tags.at(6), 0), 24U);
  EXPECT_EQ((tags.at(6).size() - 8) / 24, make_e820(memory).size());
  EXPECT_EQ(load<std::uint64_t>(tags.at(8), 0), 0xb8000U);
  EXPECT_EQ(tags.at(8)[21], 2);
  EXPECT_EQ(tags.at(14), ByteVector(rsdp.begin(), rsdp.begin() + 20));
  EXPECT_EQ(tags.at(15), rsdp);
  EXPECT_FALSE(tags.contains(21));
}

TEST(Multiboot2, symbols_are_loaded_and_found_through_the_section_headers) {
  for (const bool is64 : {false, true}) {
    GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
    const auto image = parse(is64 ? minimal_multiboot2<Class64>() : minimal_multiboot2<Class32>());
    const auto state = place_image(*image, {}, memory);
    ASSERT_TRUE(state) << error_text(state);
    const ByteVector tag = tags_in(memory, state->regs.rbx).at(9);
    EXPECT_EQ(load<std::uint32_t>(tag, 0), 3U);
    const auto entry = load<std::uint32_t>(tag, 4);
    EXPECT_EQ(entry, is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr));
    // Section 2 is .strtab.
    const std::size_t at = 12 + 2 * entry;
    const std::uint64_t address =
        is64 ? load<Elf64_Shdr>(tag, at).sh_addr : load<Elf32_Shdr>(tag, at).sh_addr;
    std::string name(11, ' ');
    for (std::size_t i = 0; i < name.size(); ++i)
      name[i] = memory.read_value<char>(address + 1 + i).value();
    EXPECT_EQ(name, "kernel_main");
  }
}

}  // namespace
}  // namespace vmm
