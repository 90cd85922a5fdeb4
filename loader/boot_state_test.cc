#include "loader/boot_state.h"

#include <gtest/gtest.h>

#include "loader/e820.h"
#include "loader/image_builder.h"
#include "vmm/core/page_walk.h"

namespace vmm {
namespace {

using namespace testing_images;

// Places an image of each protocol at 1 MiB into 16 MiB.
class BootState : public ::testing::Test {
 protected:
  CpuState start(const ByteVector& bytes, const BootOptions& options = {}) {
    const auto image = parse(bytes, options);
    EXPECT_TRUE(image) << error_text(image);
    auto state = place_image(*image, options, memory_);
    EXPECT_TRUE(state) << error_text(state);
    return *state;
  }
  std::uint64_t quad(Gpa gpa) { return memory_.read_value<std::uint64_t>(gpa).value(); }

  // The register's cached part agrees with the descriptor that its selector names (SDM vol. 3A
  // figure 3-8), so that loading the selector again changes nothing.
  void expect_in_gdt(const kvm_sregs& sregs, const kvm_segment& s) {
    ASSERT_LE(s.selector + 7U, sregs.gdt.limit);
    const std::uint64_t d = quad(sregs.gdt.base + s.selector);
    const std::uint64_t limit = bits(d, 15, 0) | bits(d, 51, 48) << 16;
    EXPECT_EQ(s.limit, bit(d, 55) ? limit << 12 | 0xfff : limit);
    EXPECT_EQ(s.base, bits(d, 39, 16) | bits(d, 63, 56) << 24);
    EXPECT_EQ(s.type, bits(d, 43, 40));
    EXPECT_EQ(s.s, bits(d, 44, 44));
    EXPECT_EQ(s.dpl, bits(d, 46, 45));
    EXPECT_EQ(s.present, bits(d, 47, 47));
    EXPECT_EQ(s.l, bits(d, 53, 53));
    EXPECT_EQ(s.db, bits(d, 54, 54));
    EXPECT_EQ(s.g, bits(d, 55, 55));
  }
  void expect_protected(const CpuState& state) {
    const kvm_sregs& s = state.sregs;
    for (const kvm_segment& segment : {s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.tr})
      expect_in_gdt(s, segment);
    EXPECT_EQ(quad(s.gdt.base), 0U);
    EXPECT_EQ(quad(s.gdt.base + 0x20), 0U);  // the upper half of the TSS descriptor in long mode
    for (const kvm_segment& segment : {s.ds, s.es, s.fs, s.gs, s.ss}) {
      EXPECT_EQ(segment.base, 0U);
      EXPECT_EQ(segment.limit, 0xffffffffU);
      EXPECT_EQ(segment.type, 3U);
      EXPECT_EQ(segment.unusable, 0U);
    }
    EXPECT_EQ(s.cs.base, 0U);
    EXPECT_EQ(s.cs.type, 0xbU);
    EXPECT_EQ(s.tr.type, 0xbU);  // busy
    EXPECT_EQ(s.tr.limit, 0x67U);
    EXPECT_TRUE(memory_.is_ram(s.tr.base, 0x68));
    EXPECT_EQ(s.ldt.unusable, 1U);
    EXPECT_EQ(s.idt.limit, 0U);
    EXPECT_EQ(state.regs.rflags, 2U);
    EXPECT_EQ(s.apic_base, 0xfee00900U);
    EXPECT_EQ(state.debugregs.dr7, 0x400U);
    EXPECT_EQ(state.mp_state, static_cast<std::uint32_t>(KVM_MP_STATE_RUNNABLE));
    EXPECT_TRUE(memory_.is_ram(state.regs.rsp - BootBlock::kStackSize + 8, BootBlock::kStackSize));
  }

  GuestMemory memory_ = std::move(GuestMemory::create(16_MiB)).value();
};

TEST_F(BootState, elf64_starts_in_long_mode) {
  const CpuState state = start(minimal_elf<Class64>());
  expect_protected(state);
  EXPECT_EQ(cpu_mode(state.sregs), CpuMode::Long64);
  EXPECT_EQ(state.regs.rip, 0x100010U);
  EXPECT_EQ(state.sregs.cr0, 0x80010031U);
  EXPECT_EQ(state.sregs.cr4, 0x620U);
  EXPECT_EQ(state.sregs.efer, 0x500U);
  EXPECT_EQ((state.regs.rsp + 8) % 16, 0U);  // as after a call
  EXPECT_EQ(quad(state.regs.rsp), 0U);
  for (const std::uint64_t other : {state.regs.rax, state.regs.rbx, state.regs.rcx, state.regs.rbp,
                                    state.regs.r8, state.regs.r15})
    EXPECT_EQ(other, 0U);
}

// By hand, from the manual: PML4E and PDPTE give tables, each PDE a page of 2 MiB.
TEST_F(BootState, elf64_page_tables_map_each_2_mib_of_4_gib_to_itself) {
  const CpuState state = start(minimal_elf<Class64>());
  constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
  const std::uint64_t pml4e = quad(state.sregs.cr3);
  ASSERT_EQ(pml4e & ~kAddress, 3U);
  for (unsigned i = 1; i < 512; ++i) ASSERT_EQ(quad(state.sregs.cr3 + i * 8), 0U) << i;
  for (std::uint64_t gib = 0; gib < 512; ++gib) {
    const std::uint64_t pdpte = quad((pml4e & kAddress) + gib * 8);
    if (gib >= 4) {
      ASSERT_EQ(pdpte, 0U) << gib;
      continue;
    }
    ASSERT_EQ(pdpte & ~kAddress, 3U) << "present, writable, never a page of 1 GiB";
    for (std::uint64_t i = 0; i < 512; ++i)
      ASSERT_EQ(quad((pdpte & kAddress) + i * 8), (gib << 30 | i << 21) | 0x83);
  }
}

TEST_F(BootState, elf64_page_tables_satisfy_the_walker_without_optional_features) {
  const CpuState state = start(minimal_elf<Class64>());
  PagingFeatures features;
  features.nx = false;
  const PagingContext context = PagingContext::from(state, features);
  for (const Gva address : {Gva{0}, Gva{0xb8000}, Gva{0x100010}, Gva{3_GiB}, Gva{4_GiB - 1}}) {
    const Walk walk = walk_page(memory_, context, address, {.write = true});
    EXPECT_EQ(walk.gpa, address);
    EXPECT_EQ(walk.page_size, 2_MiB);
  }
  EXPECT_FALSE(walk_page(memory_, context, 4_GiB, {}).gpa);
  EXPECT_TRUE(lint_paging(memory_, context).empty());
}

TEST_F(BootState, elf32_starts_in_protected_mode_without_paging) {
  const CpuState state = start(minimal_elf<Class32>());
  expect_protected(state);
  EXPECT_EQ(cpu_mode(state.sregs), CpuMode::Protected32);
  EXPECT_EQ(state.regs.rip, 0x100010U);
  EXPECT_EQ(state.sregs.cr0, 0x11U);
  EXPECT_EQ(state.sregs.cr3, 0U);
  EXPECT_EQ(state.sregs.cr4, 0U);
  EXPECT_EQ(state.sregs.efer, 0U);
  EXPECT_EQ((state.regs.rsp + 4) % 16, 0U);
}

TEST_F(BootState, multiboot1_starts_with_its_magic_and_its_information) {
  for (const ByteVector& bytes : {minimal_multiboot1<Class32>(), minimal_multiboot1<Class64>()}) {
    const CpuState state = start(bytes);
    expect_protected(state);
    EXPECT_EQ(cpu_mode(state.sregs), CpuMode::Protected32);
    EXPECT_EQ(state.regs.rip, 0x100030U);
    EXPECT_EQ(state.regs.rax, 0x2badb002U);
    EXPECT_EQ(state.sregs.cr0, 0x11U);
    EXPECT_EQ(state.sregs.cr4, 0U);
    EXPECT_EQ(state.sregs.efer, 0U);
    EXPECT_GE(state.regs.rbx, 0x90000U);
    EXPECT_LT(state.regs.rbx, 0x9fc00U);
    EXPECT_EQ(memory_.read_value<std::uint32_t>(state.regs.rbx), 0x124dU);
    EXPECT_EQ(memory_.read_value<std::uint32_t>(state.regs.rbx + 8), 15U * 1024);
  }
}

CpuState flat_at(Gpa address) {
  GuestMemory memory = std::move(GuestMemory::create(2_MiB)).value();
  BootOptions options = with_protocol("flat");
  options.flat_address = address;
  const auto image = parse({0x90, 0xf4}, options);
  return place_image(*image, options, memory).value();
}

TEST(FlatState, starts_in_real_mode_at_the_address) {
  for (const Gpa address : {Gpa{0}, Gpa{0x500}, Gpa{0x7c00}, Gpa{0xffff}, Gpa{0x10000},
                            Gpa{0x12345}, Gpa{0x9fbfe}, Gpa{0xffffe}}) {
    const CpuState state = flat_at(address);
    EXPECT_EQ(cpu_mode(state.sregs), CpuMode::Real);
    EXPECT_EQ(state.sregs.cs.base + state.regs.rip, address);
    EXPECT_EQ(state.regs.rip, address & 0xffff);
    for (const kvm_segment& s : {state.sregs.cs, state.sregs.ds, state.sregs.es, state.sregs.fs,
                                 state.sregs.gs, state.sregs.ss}) {
      EXPECT_EQ(s.base, std::uint64_t{s.selector} << 4);
      EXPECT_EQ(s.selector, state.sregs.cs.selector);
      EXPECT_EQ(s.limit, 0xffffU);
    }
    EXPECT_EQ(state.sregs.cr0, 0x10U);
    EXPECT_EQ(state.sregs.cr4, 0U);
    EXPECT_EQ(state.sregs.idt.base, 0U);
    EXPECT_EQ(state.sregs.idt.limit, 0x3ffU);
    EXPECT_EQ(state.regs.rflags, 2U);
    EXPECT_EQ(state.regs.rsp % 2, 0U);
    EXPECT_LT(state.regs.rsp, 0x10000U);
  }
}

TEST(FlatState, boot_sector_starts_at_0000_7c00_with_its_stack_below) {
  const CpuState state = flat_at(0x7c00);
  EXPECT_EQ(state.sregs.cs.selector, 0U);
  EXPECT_EQ(state.regs.rip, 0x7c00U);
  EXPECT_EQ(state.regs.rsp, 0x7c00U);
}

TEST(FlatState, stack_is_at_the_segments_end_where_there_is_no_room_below) {
  EXPECT_EQ(flat_at(0x500).regs.rsp, 0xfffeU);
  EXPECT_EQ(flat_at(0x10000).regs.rsp, 0xfffeU);
  EXPECT_EQ(flat_at(0x1001).regs.rsp, 0x1000U);
}

}  // namespace
}  // namespace vmm
