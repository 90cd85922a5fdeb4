#include "loader/elf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/image_builder.h"

namespace vmm {
namespace {

using namespace testing_images;
using ::testing::HasSubstr;

template <typename Class>
class ElfClasses : public ::testing::Test {};
using Classes = ::testing::Types<Class32, Class64>;
TYPED_TEST_SUITE(ElfClasses, Classes, );

TYPED_TEST(ElfClasses, minimal_image_gives_segments_entry_and_symbols) {
  const auto image = parse(minimal_elf<TypeParam>());
  ASSERT_TRUE(image) << error_text(image);
  constexpr bool kIs64 = TypeParam::kClass == ELFCLASS64;
  EXPECT_EQ(image->protocol, kIs64 ? BootProtocol::Elf64 : BootProtocol::Elf32);
  EXPECT_EQ(image->entry, 0x100010U);
  ASSERT_EQ(image->segments.size(), 2U);
  EXPECT_EQ(image->segments[0].gpa, 0x100000U);
  EXPECT_EQ(image->segments[0].file_size, 64U);
  EXPECT_EQ(image->segments[1].memory_size, 5000U);
  EXPECT_EQ(image->lowest(), 0x100000U);
  EXPECT_EQ(image->highest(), 0x101000U + 5000);
  EXPECT_EQ(image->symbols.name_of(0x100010), "_start");
  EXPECT_EQ(image->symbols.name_of(0x100024), "kernel::main+4h");
  EXPECT_EQ(image->symbols.name_of(0x101000), "counter");
}

TYPED_TEST(ElfClasses, position_independent_image_without_relocations_is_accepted) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) { h.e_type = ET_DYN; });
  EXPECT_TRUE(parse(bytes));
}

TYPED_TEST(ElfClasses, truncated_header_names_both_ends) {
  ByteVector bytes = minimal_elf<TypeParam>();
  bytes.resize(40);
  const auto image = parse(bytes);
  EXPECT_THAT(error_text(image), HasSubstr("kernel: the ELF header is cut off"));
  EXPECT_THAT(error_text(image), HasSubstr("the file at 28h"));
  bytes.resize(6);
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("cut off: the file ends at 6h"));
}

TYPED_TEST(ElfClasses, program_headers_beyond_the_file_are_refused) {
  using Builder = ElfBuilder<TypeParam>;
  ByteVector bytes = minimal_elf<TypeParam>();
  bytes.resize(Builder::program_header(2) - 1);
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("the 2 program headers"));
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("run over the end of the file"));
  // An offset near the top must not wrap into the file.
  bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Ehdr>(
      bytes, 0, [](auto& h) { h.e_phoff = static_cast<decltype(h.e_phoff)>(~std::uint64_t{7}); });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("run over the end of the file"));
}

TYPED_TEST(ElfClasses, wrong_phentsize_is_refused) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) { h.e_phentsize = 48; });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("program headers of 30h bytes (e_phentsize)"));
}

TYPED_TEST(ElfClasses, absurd_number_of_program_headers_is_refused) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) { h.e_phnum = 257; });
  bytes.resize(100000);
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("257 program headers"));
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("at most 256"));
}

TYPED_TEST(ElfClasses, no_program_headers_are_refused) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) { h.e_phnum = 0; });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("no program headers"));
}

TYPED_TEST(ElfClasses, no_load_segment_is_refused) {
  const ByteVector bytes = ElfBuilder<TypeParam>().part(PT_NOTE, pattern(8)).build();
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("none of the 1 program headers loads anything"));
}

TYPED_TEST(ElfClasses, empty_load_segments_are_left_out) {
  const auto image = parse(ElfBuilder<TypeParam>()
                               .entry(0x100000)
                               .load_segment(0x100000, 0x100000, pattern(8), 8)
                               .load_segment(0x100004, 0, {}, 0)
                               .build());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->segments.size(), 1U);
}

TYPED_TEST(ElfClasses, segment_outside_of_the_file_is_refused) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Phdr>(bytes, ElfBuilder<TypeParam>::program_header(1), [](auto& p) {
    p.p_offset = static_cast<decltype(p.p_offset)>(~std::uint64_t{0});
  });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("program header 1: 18h bytes from offset fff"));
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("run over the end of the file"));
}

TYPED_TEST(ElfClasses, a_segment_is_executable_where_its_flags_say_so) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Phdr>(bytes, ElfBuilder<TypeParam>::program_header(0),
                                 [](auto& p) { p.p_flags = PF_R | PF_X; });
  edit<typename TypeParam::Phdr>(bytes, ElfBuilder<TypeParam>::program_header(1),
                                 [](auto& p) { p.p_flags = PF_R | PF_W; });
  const auto image = parse(bytes);
  ASSERT_TRUE(image) << error_text(image);
  for (const Segment& segment : image->segments)
    EXPECT_EQ(segment.executable, segment.number == 0) << segment.number;
}

TYPED_TEST(ElfClasses, memory_smaller_than_the_file_part_is_refused) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Phdr>(bytes, ElfBuilder<TypeParam>::program_header(0),
                                 [](auto& p) { p.p_memsz = 63; });
  EXPECT_THAT(error_text(parse(bytes)),
              HasSubstr("program header 0: p_memsz 3fh is less than p_filesz 40h"));
}

TYPED_TEST(ElfClasses, wrapping_physical_address_is_refused) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Phdr>(bytes, ElfBuilder<TypeParam>::program_header(0), [](auto& p) {
    p.p_paddr = static_cast<decltype(p.p_paddr)>(~std::uint64_t{0} - 62);
  });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("program header 0: 40h bytes at p_paddr fff"));
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("wrap around"));
}

TYPED_TEST(ElfClasses, wrapping_linear_address_is_refused_but_the_top_is_reachable) {
  ByteVector bytes = minimal_elf<TypeParam>();
  const auto set_vaddr = [&bytes](std::uint64_t from_top) {
    edit<typename TypeParam::Phdr>(
        bytes, ElfBuilder<TypeParam>::program_header(1),
        [from_top](auto& p) { p.p_vaddr = static_cast<decltype(p.p_vaddr)>(0 - from_top); });
  };
  set_vaddr(4999);
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("program header 1: 1388h bytes at p_vaddr"));
  set_vaddr(5000);
  EXPECT_TRUE(parse(bytes));
}

TYPED_TEST(ElfClasses, overlapping_segments_are_refused_with_both_ranges) {
  const ByteVector bytes = ElfBuilder<TypeParam>()
                               .entry(0x100000)
                               .load_segment(0x101000, 0x201000, pattern(16), 16)
                               .load_segment(0x100000, 0x100000, pattern(16), 0x1001)
                               .build();
  EXPECT_THAT(error_text(parse(bytes)),
              HasSubstr("program headers 1 and 0 overlap in physical memory: 100000h-101000h and "
                        "101000h-10100fh"));
}

TYPED_TEST(ElfClasses, touching_segments_are_sorted_and_keep_their_numbers) {
  const auto image = parse(ElfBuilder<TypeParam>()
                               .entry(0x100000)
                               .load_segment(0x101000, 0x101000, pattern(16), 16)
                               .load_segment(0x100000, 0x100000, pattern(16), 0x1000)
                               .build());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->segments[0].gpa, 0x100000U);
  EXPECT_EQ(image->segments[0].number, 1U);
  EXPECT_EQ(image->segments[1].number, 0U);
}

TYPED_TEST(ElfClasses, entry_is_translated_from_linear_to_physical) {
  const auto image = parse(ElfBuilder<TypeParam>()
                               .entry(0xc0100020)
                               .load_segment(0x100000, 0xc0100000, pattern(64), 64)
                               .build());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->entry, 0x100020U);
  EXPECT_EQ(image->segments[0].vaddr, 0xc0100000U);
}

TYPED_TEST(ElfClasses, physical_entry_of_a_high_kernel_stays) {
  const auto image = parse(ElfBuilder<TypeParam>()
                               .entry(0x100020)
                               .load_segment(0x100000, 0xc0100000, pattern(64), 64)
                               .build());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->entry, 0x100020U);
}

TYPED_TEST(ElfClasses, entry_outside_of_all_segments_is_refused) {
  for (const std::uint64_t entry : {std::uint64_t{0}, std::uint64_t{0xfffff},
                                    std::uint64_t{0x100040}, std::uint64_t{0x101000 + 5000}}) {
    ByteVector bytes = minimal_elf<TypeParam>();
    edit<typename TypeParam::Ehdr>(
        bytes, 0, [entry](auto& h) { h.e_entry = static_cast<decltype(h.e_entry)>(entry); });
    EXPECT_THAT(error_text(parse(bytes)), HasSubstr("(e_entry) lies in no segment")) << entry;
  }
}

TYPED_TEST(ElfClasses, other_machines_are_refused_by_name) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) { h.e_machine = EM_AARCH64; });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("ELF machine 183 (AArch64) at offset 12h"));
  // The x86 machine of the other class is as wrong.
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) {
    h.e_machine = static_cast<std::uint16_t>(EM_386 + EM_X86_64 - TypeParam::kMachine);
  });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("is needed"));
}

TYPED_TEST(ElfClasses, class_byte_order_and_versions_are_checked) {
  const auto with_byte = [](std::size_t offset, std::uint8_t value) {
    ByteVector bytes = minimal_elf<TypeParam>();
    bytes[offset] = value;
    return error_text(parse(bytes));
  };
  EXPECT_THAT(with_byte(EI_CLASS, 0), HasSubstr("ELF class 0 at offset 4h"));
  EXPECT_THAT(with_byte(EI_CLASS, 3), HasSubstr("ELF class 3 at offset 4h"));
  EXPECT_THAT(with_byte(EI_DATA, 2), HasSubstr("ELF byte order 2 at offset 5h"));
  EXPECT_THAT(with_byte(EI_VERSION, 2), HasSubstr("ELF version 2 at offset 6h"));
  EXPECT_THAT(with_byte(0x14, 9), HasSubstr("ELF version 9h at offset 14h"));
}

TYPED_TEST(ElfClasses, objects_and_cores_are_refused) {
  ByteVector bytes = minimal_elf<TypeParam>();
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) { h.e_type = ET_REL; });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("ELF type 1 (relocatable object)"));
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("link it"));
  edit<typename TypeParam::Ehdr>(bytes, 0, [](auto& h) { h.e_type = ET_CORE; });
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("ELF type 4 (core dump)"));
}

TYPED_TEST(ElfClasses, dynamic_linker_is_refused) {
  const ByteVector bytes = ElfBuilder<TypeParam>()
                               .entry(0x100000)
                               .load_segment(0x100000, 0x100000, pattern(8), 8)
                               .part(PT_INTERP, pattern(8))
                               .build();
  EXPECT_THAT(error_text(parse(bytes)), HasSubstr("program header 1: the image wants a dynamic"));
  EXPECT_THAT(hint_text(parse(bytes)), HasSubstr("-static"));
}

template <typename Class>
ByteVector with_dynamic(std::uint64_t tag, std::uint64_t value) {
  ByteVector dynamic;
  typename Class::Dyn entry{};
  entry.d_tag = static_cast<decltype(entry.d_tag)>(tag);
  entry.d_un.d_val = static_cast<decltype(entry.d_un.d_val)>(value);
  append(dynamic, entry);
  append(dynamic, typename Class::Dyn{});
  entry.d_tag = DT_NEEDED;  // behind the end, must not count
  append(dynamic, entry);
  return ElfBuilder<Class>()
      .entry(0x100000)
      .load_segment(0x100000, 0x100000, pattern(8), 8)
      .part(PT_DYNAMIC, dynamic)
      .build();
}

TYPED_TEST(ElfClasses, dynamic_section_that_needs_work_is_refused) {
  EXPECT_THAT(error_text(parse(with_dynamic<TypeParam>(DT_NEEDED, 1))),
              HasSubstr("program header 1: the image needs shared libraries"));
  for (const std::uint64_t tag : {std::uint64_t{DT_RELASZ}, std::uint64_t{DT_RELSZ},
                                  std::uint64_t{DT_PLTRELSZ}, std::uint64_t{35}}) {
    EXPECT_THAT(error_text(parse(with_dynamic<TypeParam>(tag, 0x30))),
                HasSubstr("program header 1: 30h bytes of dynamic relocations"));
    EXPECT_TRUE(parse(with_dynamic<TypeParam>(tag, 0)));
  }
  EXPECT_TRUE(parse(with_dynamic<TypeParam>(DT_STRTAB, 0x100000)));
}

TYPED_TEST(ElfClasses, damaged_symbols_are_left_out) {
  using Ehdr = typename TypeParam::Ehdr;
  using Shdr = typename TypeParam::Shdr;
  const ByteVector good = minimal_elf<TypeParam>();
  const auto symtab = static_cast<std::size_t>(load<Ehdr>(good).e_shoff) + sizeof(Shdr);
  const std::size_t strtab = symtab + sizeof(Shdr);
  const auto symbols_after = [&good](std::size_t offset, auto&& change) {
    ByteVector bytes = good;
    edit<Shdr>(bytes, offset, change);
    const auto image = parse(bytes);
    EXPECT_TRUE(image) << error_text(image);
    return image ? image->symbols.size() : 0;
  };
  EXPECT_EQ(symbols_after(symtab, [](auto&) {}), 3U);
  EXPECT_EQ(symbols_after(symtab, [](auto& s) { s.sh_offset = 0x7fffffff; }), 0U);
  EXPECT_EQ(symbols_after(symtab, [](auto& s) { s.sh_size = ~decltype(s.sh_size){0}; }), 0U);
  EXPECT_EQ(symbols_after(symtab, [](auto& s) { s.sh_entsize = 1; }), 0U);
  EXPECT_EQ(symbols_after(symtab, [](auto& s) { s.sh_link = 3; }), 0U);
  EXPECT_EQ(symbols_after(strtab, [](auto& s) { s.sh_type = SHT_NOTE; }), 0U);
  EXPECT_EQ(symbols_after(strtab, [](auto& s) { s.sh_size = ~decltype(s.sh_size){0}; }), 0U);
  // Names that begin outside of the string table are left out one by one.
  EXPECT_EQ(symbols_after(strtab, [](auto& s) { s.sh_size = 8; }), 1U);
  ByteVector bytes = good;
  edit<Ehdr>(bytes, 0, [](auto& h) { h.e_shnum = 0xfff0; });
  EXPECT_EQ(parse(bytes)->symbols.size(), 0U);
}

TYPED_TEST(ElfClasses, only_places_become_symbols_and_functions_win_over_labels) {
  const auto image = parse(ElfBuilder<TypeParam>()
                               .entry(0x100000)
                               .load_segment(0x100000, 0x100000, pattern(64), 64)
                               .symbol("label", 0x100000, 0, STT_NOTYPE)
                               .symbol("function", 0x100000, 16, STT_FUNC)
                               .symbol("kConstant", 0x100020, 0, STT_NOTYPE, SHN_ABS)
                               .symbol("file.c", 0x100021, 0, STT_FILE, SHN_ABS)
                               .symbol(".text", 0x100022, 0, STT_SECTION)
                               .symbol("elsewhere", 0x100023, 0, STT_FUNC, SHN_UNDEF)
                               .symbol(std::string(600, 'x'), 0x100030, 4, STT_FUNC)
                               .build());
  ASSERT_TRUE(image) << error_text(image);
  EXPECT_EQ(image->symbols.size(), 2U);
  EXPECT_EQ(image->symbols.name_of(0x100000), "function");
  EXPECT_LE(image->symbols.name_of(0x100030)->size(), SymbolTable::kMaxName + 3);
}

TEST(Elf, program_of_this_system_is_refused) {
  const auto image = load_image("/bin/sh", {});
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind(), ErrorKind::Image);
  EXPECT_THAT(error_text(image), HasSubstr("/bin/sh: program header"));
}

TEST(Elf, segment_may_end_at_4g_in_32_bits_and_not_at_the_top_in_64) {
  EXPECT_TRUE(parse(Elf32Builder()
                        .entry(0xfffffff0)
                        .load_segment(0xfffffff0, 0xfffffff0, pattern(16), 16)
                        .build()));
  const auto high = parse(Elf64Builder()
                              .entry(~std::uint64_t{15})
                              .load_segment(~std::uint64_t{15}, ~std::uint64_t{15}, pattern(16), 16)
                              .build());
  EXPECT_THAT(error_text(high), HasSubstr("wrap around"));
}

}  // namespace
}  // namespace vmm
