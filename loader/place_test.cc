#include "loader/place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/boot_state.h"
#include "loader/e820.h"
#include "loader/image_builder.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::AllOf;
using ::testing::HasSubstr;

GuestMemory ram(std::uint64_t size, bool vga_trap = false) {
  return std::move(GuestMemory::create(size, vga_trap)).value();
}

ByteVector read(const GuestMemory& memory, Gpa gpa, std::size_t size) {
  ByteVector bytes(size);
  EXPECT_TRUE(memory.read(gpa, bytes)) << gpa;
  return bytes;
}

std::string read_string(const GuestMemory& memory, Gpa gpa) {
  std::string text;
  for (;; ++gpa) {
    const auto byte = memory.read_value<char>(gpa);
    if (!byte || *byte == 0) return text;
    text += *byte;
  }
}

// One segment of `size` bytes at `gpa`, entered at its start.
LoadedImage one_segment(Gpa gpa, std::uint64_t size, BootProtocol protocol = BootProtocol::Elf64) {
  LoadedImage image;
  image.protocol = protocol;
  image.path = "kernel";
  image.bytes = pattern(16);
  image.segments = {{.gpa = gpa,
                     .file_offset = 0,
                     .file_size = std::min<std::uint64_t>(size, 16),
                     .memory_size = size,
                     .vaddr = gpa}};
  image.entry = gpa;
  return image;
}

Result<CpuState> place(const LoadedImage& image, GuestMemory& memory,
                       const BootOptions& options = {}) {
  return place_image(image, options, memory);
}

TEST(Place, segments_are_copied_and_bss_is_zeroed_in_memory_that_was_used_before) {
  GuestMemory memory = ram(16_MiB);
  for (const GuestMemory::Region& region : memory.regions())
    std::fill(region.host.begin(), region.host.end(), std::uint8_t{0xaa});
  const auto image = parse(minimal_elf<Class64>());
  ASSERT_TRUE(place(*image, memory));
  EXPECT_EQ(read(memory, 0x100000, 64), pattern(64));
  EXPECT_EQ(read(memory, 0x100040, 4), ByteVector(4, 0xaa));
  EXPECT_EQ(read(memory, 0x101000, 24), pattern(24));
  EXPECT_EQ(read(memory, 0x101000 + 24, 5000 - 24), ByteVector(5000 - 24, 0));
  EXPECT_EQ(read(memory, 0x101000 + 5000, 4), ByteVector(4, 0xaa));
}

TEST(Place, nothing_but_segments_modules_and_the_boot_block_is_written) {
  for (const auto protocol : {"elf", "multiboot1"}) {
    GuestMemory memory = ram(4_MiB);
    const std::span<std::uint8_t> host = memory.regions()[0].host;
    std::fill(host.begin(), host.end(), std::uint8_t{0xaa});
    BootOptions options = with_protocol(protocol);
    const auto image = parse(minimal_multiboot1<Class64>(), options);
    if (image->protocol == BootProtocol::Multiboot1) options.modules = {{"env", "", pattern(4097)}};
    ASSERT_TRUE(place(*image, memory, options));
    const auto untouched = [&](Gpa from, Gpa to) {
      const auto part = host.subspan(from, to - from);
      return std::all_of(part.begin(), part.end(), [](std::uint8_t b) { return b == 0xaa; });
    };
    EXPECT_TRUE(untouched(0, 0x90000));
    EXPECT_TRUE(untouched(0x9fc00, 0x100000));
    EXPECT_TRUE(untouched(0x100000 + 80, 0x102000));
    if (image->protocol == BootProtocol::Multiboot1) {
      EXPECT_EQ(read(memory, 0x103000, 4097), pattern(4097));
      EXPECT_TRUE(untouched(0x103000 + 4097, 4_MiB));
    } else {
      EXPECT_TRUE(untouched(0x103000, 4_MiB));
    }
  }
}

TEST(Place, bss_does_not_touch_pages_of_new_memory) {
  GuestMemory memory = ram(3_GiB);
  ASSERT_TRUE(place(one_segment(0x100000, 3_GiB - 0x100000), memory));
  EXPECT_EQ(read(memory, 0x100000, 16), pattern(16));
  EXPECT_EQ(read(memory, 3_GiB - 16, 16), ByteVector(16, 0));
}

TEST(Place, segment_beyond_ram_names_it_and_the_size_that_would_do) {
  GuestMemory memory = ram(16_MiB);
  LoadedImage image = one_segment(0x100000, 16);
  image.segments.push_back({.gpa = 16_MiB - 8, .memory_size = 16, .number = 3});
  const auto placed = place(image, memory);
  ASSERT_FALSE(placed);
  EXPECT_EQ(placed.error().kind(), ErrorKind::Image);
  EXPECT_EQ(error_text(placed),
            "kernel: segment 3 at fffff8h-1000007h lies outside of RAM, which is 0h-ffffffh");
  EXPECT_EQ(hint_text(placed), "--mem 17M is the least that holds the image");
}

TEST(Place, nothing_is_written_when_it_fails) {
  GuestMemory memory = ram(2_MiB);
  LoadedImage image = one_segment(0x100000, 16, BootProtocol::Multiboot1);
  BootOptions options;
  options.modules = {{"fits", "", pattern(16)}, {"big", "", ByteVector(2_MiB)}};
  EXPECT_FALSE(place(image, memory, options));
  image.segments.push_back({.gpa = 2_MiB, .memory_size = 16});
  EXPECT_FALSE(place(image, memory));
  image.protocol = BootProtocol::Flat;
  EXPECT_FALSE(place(image, memory));
  EXPECT_EQ(read(memory, 0, 2_MiB), ByteVector(2_MiB, 0));
}

TEST(Place, segment_in_the_hole_is_told_so) {
  GuestMemory memory = ram(4_GiB);
  const auto placed = place(one_segment(3_GiB - 0x1000, 0x2000), memory);
  EXPECT_THAT(error_text(placed),
              AllOf(HasSubstr("segment 0 at bffff000h-c0000fffh reaches into the hole for devices, "
                              "c0000000h-ffffffffh"),
                    HasSubstr("RAM is 0h-bfffffffh and 100000000h-13fffffffh")));
  EXPECT_THAT(hint_text(placed), HasSubstr("lower physical address"));
  // From RAM over the whole hole into RAM.
  EXPECT_THAT(error_text(place(one_segment(0x100000, 4_GiB + 0x1000), memory)),
              HasSubstr("reaches into the hole"));
}

TEST(Place, high_ram_takes_segments_but_not_the_entry) {
  GuestMemory memory = ram(4_GiB);
  LoadedImage image = one_segment(0x100000, 16);
  image.segments.push_back({.gpa = 5_GiB - 16, .file_size = 16, .memory_size = 16, .number = 1});
  ASSERT_TRUE(place(image, memory));
  EXPECT_EQ(read(memory, 5_GiB - 16, 16), pattern(16));
  EXPECT_THAT(error_text(place(one_segment(4_GiB, 16), memory)),
              HasSubstr("the entry point 100000000h is above 4 GiB"));
  image.segments.back().gpa = 5_GiB;
  EXPECT_EQ(hint_text(place(image, memory)), "--mem 4097M is the least that holds the image");
}

TEST(Place, kernel_without_load_addresses_is_told_about_at) {
  GuestMemory memory = ram(16_MiB);
  const auto placed = place(one_segment(0xffffffff80000000, 16), memory);
  EXPECT_THAT(error_text(placed), HasSubstr("ffffffff80000000h-ffffffff8000000fh lies outside"));
  EXPECT_THAT(hint_text(placed), HasSubstr("AT()"));
}

TEST(Place, segment_over_the_screen_memory_is_refused) {
  for (const bool trap : {false, true}) {
    GuestMemory memory = ram(16_MiB, trap);
    for (const auto& [gpa, size] : {std::pair<Gpa, std::uint64_t>{0x9ffff, 2},
                                    {0xa0000, 1},
                                    {0xbffff, 1},
                                    {0xb8000, 4000},
                                    {0x1000, 0x200000}})
      EXPECT_THAT(error_text(place(one_segment(gpa, size), memory)),
                  HasSubstr("runs over the screen memory, a0000h-bffffh"))
          << gpa;
    EXPECT_TRUE(place(one_segment(0x9fff0, 16), memory));
    EXPECT_TRUE(place(one_segment(0xc0000, 16), memory));
  }
}

TEST(Place, every_protocol_with_a_block_gets_it_at_90000h) {
  GuestMemory memory = ram(16_MiB);
  for (const BootProtocol protocol :
       {BootProtocol::Elf64, BootProtocol::Elf32, BootProtocol::Multiboot1}) {
    const auto state = place(one_segment(0x100000, 64, protocol), memory);
    ASSERT_TRUE(state) << error_text(state);
    EXPECT_EQ(state->sregs.gdt.base, BootBlock(protocol, 0x90000).gdt());
  }
}

TEST(Place, block_moves_out_of_the_way_of_the_image) {
  GuestMemory memory = ram(16_MiB);
  const auto block_base = [&](Gpa gpa, std::uint64_t size) -> Gpa {
    LoadedImage image = one_segment(gpa, size);
    const auto state = place(image, memory);
    EXPECT_TRUE(state) << error_text(state);
    if (!state) return 0;
    const Gpa base = state->sregs.cr3 - BootBlock::kStackSize;
    EXPECT_EQ(read(memory, gpa, 16), pattern(16));
    EXPECT_EQ(base % 4_KiB, 0U);
    return base;
  };
  EXPECT_EQ(block_base(0x90000, 16), 0x91000U);
  EXPECT_EQ(block_base(0x9f000, 0xc00), 0x90000U);
  EXPECT_EQ(block_base(0x98000, 16), 0xe000U);
  EXPECT_EQ(block_base(0xe000, 0x90000), 0xfff000U - 0xa000U);
  EXPECT_EQ(block_base(0x1000, 0x9e000), 0xfff000U - 0xa000U);
}

TEST(Place, image_that_leaves_no_room_is_refused) {
  GuestMemory memory = ram(1_MiB);
  const auto placed = place(one_segment(0x1000, 0x9ec00), memory);
  EXPECT_THAT(error_text(placed), HasSubstr("the image leaves no"));
  EXPECT_THAT(hint_text(placed), HasSubstr("--mem"));
}

TEST(Place, command_line_is_the_name_and_what_is_appended) {
  GuestMemory memory = ram(16_MiB);
  BootOptions options;
  const LoadedImage elf = one_segment(0x100000, 64, BootProtocol::Elf32);
  EXPECT_EQ(read_string(memory, place(elf, memory, options)->regs.rdi), "kernel");
  options.command_line = "a=1 b";
  EXPECT_EQ(read_string(memory, place(elf, memory, options)->regs.rdi), "kernel a=1 b");
  const LoadedImage multiboot = one_segment(0x100000, 64, BootProtocol::Multiboot1);
  const auto state = place(multiboot, memory, options);
  EXPECT_EQ(read_string(memory, *memory.read_value<std::uint32_t>(state->regs.rbx + 16)),
            "kernel a=1 b");
}

TEST(Place, elf_images_find_the_memory_map) {
  GuestMemory memory = ram(4_GiB);
  const auto state = place(one_segment(0x100000, 64), memory);
  const std::vector<E820Entry> map = make_e820(memory);
  ASSERT_EQ(state->regs.rdx, map.size());
  EXPECT_EQ(state->regs.rsi % 8, 0U);
  for (std::size_t i = 0; i < map.size(); ++i) {
    const Gpa at = state->regs.rsi + i * 20;
    const E820Entry entry{*memory.read_value<std::uint64_t>(at),
                          *memory.read_value<std::uint64_t>(at + 8),
                          *memory.read_value<std::uint32_t>(at + 16)};
    EXPECT_EQ(entry, map[i]);
  }
}

TEST(Place, command_line_that_is_too_long_is_a_usage_error) {
  GuestMemory memory = ram(16_MiB);
  BootOptions options;
  for (const BootProtocol protocol :
       {BootProtocol::Elf64, BootProtocol::Elf32, BootProtocol::Multiboot1}) {
    options.command_line.assign(20000, 'x');
    EXPECT_TRUE(place(one_segment(0x100000, 64, protocol), memory, options));
    options.command_line.assign(0xfc00, 'x');
    const auto placed = place(one_segment(0x100000, 64, protocol), memory, options);
    ASSERT_FALSE(placed);
    EXPECT_EQ(placed.error().kind(), ErrorKind::Usage);
    EXPECT_THAT(error_text(placed), HasSubstr("there is room for 64512"));
  }
}

TEST(PlaceModules, stand_on_pages_above_the_kernel_with_their_strings) {
  GuestMemory memory = ram(16_MiB);
  BootOptions options;
  options.modules = {{"env", "", pattern(10)},
                     {"disk", "ro x", pattern(4096)},
                     {"none", "", {}},
                     {"last", "", pattern(1)}};
  const auto state =
      place(one_segment(0x100000, 0x1001, BootProtocol::Multiboot1), memory, options);
  ASSERT_TRUE(state) << error_text(state);
  const Gpa info = state->regs.rbx;
  ASSERT_EQ(memory.read_value<std::uint32_t>(info + 20), 4U);
  const Gpa list = *memory.read_value<std::uint32_t>(info + 24);
  const auto word = [&](Gpa offset) { return *memory.read_value<std::uint32_t>(list + offset); };
  EXPECT_EQ(word(0), 0x102000U);
  EXPECT_EQ(word(4), 0x10200aU);
  EXPECT_EQ(read_string(memory, word(8)), "env");
  EXPECT_EQ(word(16), 0x103000U);
  EXPECT_EQ(word(20), 0x104000U);
  EXPECT_EQ(read_string(memory, word(24)), "disk ro x");
  EXPECT_EQ(word(32), 0x104000U);
  EXPECT_EQ(word(36), 0x104000U);
  EXPECT_EQ(word(48), 0x104000U);
  EXPECT_EQ(read(memory, 0x103000, 4096), pattern(4096));
}

TEST(PlaceModules, of_a_kernel_in_low_memory_stand_above_1_mib) {
  GuestMemory memory = ram(16_MiB);
  BootOptions options;
  options.modules = {{"env", "", pattern(10)}};
  ASSERT_TRUE(place(one_segment(0x8000, 64, BootProtocol::Multiboot1), memory, options));
  EXPECT_EQ(read(memory, 0x100000, 10), pattern(10));
}

TEST(PlaceModules, that_do_not_fit_are_named) {
  GuestMemory memory = ram(2_MiB);
  BootOptions options;
  options.modules = {{"small", "", pattern(10)}, {"big", "", ByteVector(1_MiB)}};
  const auto placed = place(one_segment(0x100000, 64, BootProtocol::Multiboot1), memory, options);
  ASSERT_FALSE(placed);
  EXPECT_EQ(placed.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(placed), HasSubstr("big: the module has 1 MiB and would stand at "
                                            "102000h-201fffh; RAM below the hole ends at 200000h"));
  EXPECT_EQ(hint_text(placed), "--mem 3M is the least that holds it");
}

TEST(PlaceModules, empty_module_at_the_very_end_of_ram_is_harmless) {
  GuestMemory memory = ram(2_MiB);
  BootOptions options;
  options.modules = {{"empty", "", {}}};
  EXPECT_TRUE(place(one_segment(0x100000, 0x100000, BootProtocol::Multiboot1), memory, options));
}

TEST(PlaceModules, need_a_protocol_that_has_them) {
  GuestMemory memory = ram(2_MiB);
  BootOptions options;
  options.modules = {{"env", "", pattern(10)}};
  for (const BootProtocol protocol :
       {BootProtocol::Elf64, BootProtocol::Elf32, BootProtocol::Flat}) {
    const auto placed = place(one_segment(0x7c00, 64, protocol), memory, options);
    ASSERT_FALSE(placed);
    EXPECT_EQ(placed.error().kind(), ErrorKind::Usage);
    EXPECT_THAT(error_text(placed), HasSubstr("--module: kernel boots as"));
  }
}

TEST(PlaceFlat, image_is_copied_and_gets_no_command_line) {
  GuestMemory memory = ram(2_MiB);
  const LoadedImage image = one_segment(0x7c00, 16, BootProtocol::Flat);
  ASSERT_TRUE(place(image, memory));
  EXPECT_EQ(read(memory, 0x7c00, 16), pattern(16));
  BootOptions options;
  options.command_line = "x";
  EXPECT_EQ(place(image, memory, options).error().kind(), ErrorKind::Usage);
}

TEST(PlaceFlat, image_that_reaches_the_screen_is_refused) {
  GuestMemory memory = ram(2_MiB);
  EXPECT_THAT(error_text(place(one_segment(0x7c00, 0x100000, BootProtocol::Flat), memory)),
              HasSubstr("runs over the screen memory"));
}

TEST(Occupied, finds_the_lowest_and_the_highest_room) {
  Occupied occupied;
  EXPECT_EQ(occupied.lowest_free(0x1001, 0x8000, 0x1000), 0x2000U);
  EXPECT_EQ(occupied.highest_free(0x1000, 0x8000, 0x1000), 0x7000U);
  occupied.add(0x2800, 1);
  occupied.add(0x7fff, 1);
  occupied.add(0x4000, 0);
  EXPECT_EQ(occupied.lowest_free(0x1000, 0x8000, 0x1800), 0x1000U);
  EXPECT_EQ(occupied.lowest_free(0x1000, 0x8000, 0x1801), 0x3000U);
  EXPECT_EQ(occupied.highest_free(0x1000, 0x8000, 0x1000), 0x6000U);
  EXPECT_EQ(occupied.lowest_free(0x1000, 0x8000, 0x5000), std::nullopt);
  EXPECT_EQ(occupied.highest_free(0x1000, 0x8000, 0x5000), std::nullopt);
  EXPECT_EQ(occupied.lowest_free(0x8000, 0x8000, 1), std::nullopt);
  EXPECT_EQ(occupied.highest_free(0x8000, 0x8000, 1), std::nullopt);
  occupied.add(0, ~std::uint64_t{0});
  EXPECT_EQ(occupied.lowest_free(0x1000, 0x8000, 1), std::nullopt);
  EXPECT_EQ(occupied.highest_free(0x1000, 0x8000, 1), std::nullopt);
}

TEST(E820, ram_ends_where_the_memory_does) {
  EXPECT_EQ(make_e820(ram(128_MiB)), (std::vector<E820Entry>{{0, 0x9fc00, 1},
                                                             {0x9fc00, 0x400, 2},
                                                             {0xe0000, 0x20000, 2},
                                                             {0x100000, 127_MiB, 1},
                                                             {0xfeffc000, 0x4000, 2}}));
}

TEST(E820, three_gib_reach_up_to_the_hole) {
  const std::vector<E820Entry> map = make_e820(ram(3_GiB));
  ASSERT_EQ(map.size(), 5U);
  EXPECT_EQ(map[3], (E820Entry{0x100000, 3_GiB - 1_MiB, 1}));
}

TEST(E820, four_gib_go_on_above_the_hole) {
  const std::vector<E820Entry> map = make_e820(ram(4_GiB));
  ASSERT_EQ(map.size(), 6U);
  EXPECT_EQ(map[3], (E820Entry{0x100000, 3_GiB - 1_MiB, 1}));
  EXPECT_EQ(map[4], (E820Entry{0xfeffc000, 0x4000, 2}));
  EXPECT_EQ(map[5], (E820Entry{4_GiB, 1_GiB, 1}));
}

TEST(E820, one_mib_has_no_extended_memory_and_trapping_the_screen_changes_nothing) {
  EXPECT_EQ(make_e820(ram(1_MiB)).size(), 4U);
  EXPECT_EQ(make_e820(ram(128_MiB, true)), make_e820(ram(128_MiB)));
}

}  // namespace
}  // namespace vmm
