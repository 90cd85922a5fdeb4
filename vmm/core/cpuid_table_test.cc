#include "vmm/core/cpuid_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace vmm {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

kvm_cpuid_entry2 entry(std::uint32_t leaf, std::uint32_t subleaf, const CpuidRegs& regs) {
  kvm_cpuid_entry2 e{};
  e.function = leaf;
  e.index = subleaf;
  e.eax = regs.eax;
  e.ebx = regs.ebx;
  e.ecx = regs.ecx;
  e.edx = regs.edx;
  return e;
}

CpuidTable with_brand(const std::string& text) {
  std::string padded = text;
  padded.resize(48, '\0');
  CpuidTable table;
  for (std::uint32_t i = 0; i < 3; ++i)
    std::memcpy(&table.at(0x80000002 + i), padded.data() + i * 16, 16);
  return table;
}

TEST(CpuidTable, keeps_subleaves_apart_where_they_count) {
  const std::vector entries = {entry(7, 0, {2, 1, 0, 0}), entry(7, 1, {0x10, 0, 0, 0}),
                               entry(1, 0, {0x306c3, 0, 0, 0})};
  const CpuidTable table = CpuidTable::from_kvm(entries);
  EXPECT_THAT(table.entries(), SizeIs(3));
  EXPECT_EQ(table.get(7, 0).ebx, 1u);
  EXPECT_EQ(table.get(7, 1).eax, 0x10u);
}

TEST(CpuidTable, the_subleaf_of_other_leaves_does_not_matter) {
  const std::vector entries = {entry(1, 5, {0x306c3, 0, 0, 0})};
  EXPECT_EQ(CpuidTable::from_kvm(entries).get(1).eax, 0x306c3u);
}

TEST(CpuidTable, the_first_of_repeated_entries_stays) {
  const std::vector entries = {entry(2, 0, {1, 0, 0, 0}), entry(2, 0, {2, 0, 0, 0})};
  EXPECT_EQ(CpuidTable::from_kvm(entries).get(2).eax, 1u);
}

TEST(CpuidTable, goes_to_kvm_and_back_unchanged) {
  CpuidTable table;
  table.at(0) = {0x16, 0x756e6547, 0x6c65746e, 0x49656e69};
  table.at(0xd, 0) = {7, 0x340, 0x340, 0};
  table.at(0xd, 1) = {0xf, 0x240, 0, 0};
  table.at(0x80000001).edx = 1u << 26;
  const auto entries = table.to_kvm();
  EXPECT_EQ(CpuidTable::from_kvm(entries), table);
  ASSERT_THAT(entries, SizeIs(4));
  EXPECT_EQ(entries[0].flags, 0u);
  EXPECT_EQ(entries[2].function, 0xdu);
  EXPECT_EQ(entries[2].index, 1u);
  EXPECT_EQ(entries[2].flags, static_cast<std::uint32_t>(KVM_CPUID_FLAG_SIGNIFCANT_INDEX));
}

TEST(CpuidTable, an_absent_leaf_reads_as_zeroes_and_stays_absent) {
  const CpuidTable table;
  EXPECT_EQ(table.find(7), nullptr);
  EXPECT_EQ(table.get(7), CpuidRegs{});
  EXPECT_FALSE(table.bit(7, 0, CpuidReg::Ebx, 31));
  EXPECT_THAT(table.entries(), IsEmpty());
}

TEST(CpuidTable, bits_are_found_by_register) {
  CpuidTable table;
  table.at(0x80000001) = {0, 0, 1u << 5, 1u << 26};
  EXPECT_TRUE(table.bit(0x80000001, 0, CpuidReg::Edx, 26));
  EXPECT_TRUE(table.bit(0x80000001, 0, CpuidReg::Ecx, 5));
  EXPECT_FALSE(table.bit(0x80000001, 0, CpuidReg::Ecx, 26));
}

TEST(CpuidTable, registers_are_reached_by_name) {
  CpuidRegs regs{1, 2, 3, 4};
  EXPECT_EQ(regs[CpuidReg::Eax], 1u);
  EXPECT_EQ(regs[CpuidReg::Ebx], 2u);
  EXPECT_EQ(regs[CpuidReg::Ecx], 3u);
  EXPECT_EQ(regs[CpuidReg::Edx], 4u);
  regs[CpuidReg::Ecx] = 9;
  EXPECT_EQ(regs, (CpuidRegs{1, 2, 9, 4}));
}

TEST(CpuidTable, erase_takes_all_subleaves) {
  CpuidTable table;
  table.at(4, 0).eax = 1;
  table.at(4, 1).eax = 2;
  table.at(5).eax = 3;
  table.erase(4);
  EXPECT_THAT(table.entries(), SizeIs(1));
  EXPECT_NE(table.find(5), nullptr);
}

TEST(CpuidTable, physical_address_width_is_36_without_the_leaf) {
  CpuidTable table;
  EXPECT_EQ(table.phys_bits(), 36u);
  table.at(0x80000008).eax = 0;
  EXPECT_EQ(table.phys_bits(), 36u);
  table.at(0x80000008).eax = 0x302e;
  EXPECT_EQ(table.phys_bits(), 46u);
}

TEST(CpuidTable, vendor_is_ebx_edx_ecx) {
  CpuidTable table;
  EXPECT_EQ(table.vendor(), "");
  table.at(0) = {0x16, 0x756e6547, 0x6c65746e, 0x49656e69};
  EXPECT_EQ(table.vendor(), "GenuineIntel");
}

TEST(CpuidTable, brand_is_trimmed_and_needs_no_terminator) {
  EXPECT_EQ(CpuidTable().brand(), "");
  EXPECT_EQ(with_brand("   Intel(R) Xeon(R)  ").brand(), "Intel(R) Xeon(R)");
  EXPECT_EQ(with_brand(std::string(48, 'x')).brand(), std::string(48, 'x'));
}

TEST(CpuidDiff, names_registers_and_takes_absence_for_zeroes) {
  CpuidTable left, right;
  left.at(1) = {1, 2, 3, 4};
  right.at(1) = {1, 2, 3, 5};
  left.at(7, 1) = {};
  right.at(0xd, 1).eax = 0xf;
  const auto differences = diff(left, right);
  ASSERT_THAT(differences, SizeIs(2));
  EXPECT_EQ(differences[0].key, (CpuidKey{1, 0}));
  EXPECT_EQ(differences[0].reg, CpuidReg::Edx);
  EXPECT_EQ(differences[0].left, 4u);
  EXPECT_EQ(differences[0].right, 5u);
  EXPECT_EQ(differences[1].key, (CpuidKey{0xd, 1}));
  EXPECT_EQ(differences[1].left, 0u);
  EXPECT_THAT(diff(left, left), IsEmpty());
}

TEST(CpuidWordName, is_as_the_manuals_write_it) {
  EXPECT_EQ(cpuid_word_name({1, 0}, CpuidReg::Ecx), "1.ECX");
  EXPECT_EQ(cpuid_word_name({7, 0}, CpuidReg::Ebx), "7.0.EBX");
  EXPECT_EQ(cpuid_word_name({0xd, 1}, CpuidReg::Eax), "D.1.EAX");
  EXPECT_EQ(cpuid_word_name({0x80000001, 0}, CpuidReg::Edx), "80000001.EDX");
}

}  // namespace
}  // namespace vmm
