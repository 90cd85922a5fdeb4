#include "vmm/machine/irqchip_choice.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

ResolvedCpu plain(CpuPolicy policy = CpuPolicy::Strict) {
  ResolvedCpu cpu;
  cpu.text = "haswell@4";
  cpu.policy = policy;
  cpu.cpuid.at(1).ecx = 1u << 21;
  return cpu;
}
ResolvedCpu nested(CpuPolicy policy = CpuPolicy::Strict) {
  ResolvedCpu cpu = plain(policy);
  cpu.text += ",+vmx";
  cpu.cpuid.at(1).ecx |= 1u << 5;
  return cpu;
}

TEST(IrqChipChoice, auto_is_user_for_a_model_that_needs_no_lapic_of_kvm) {
  ResolvedCpu cpu = plain();
  const auto choice = choose_irqchip(std::nullopt, cpu);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->kind, IrqChipKind::User);
  EXPECT_TRUE(choice->may_change);
}

TEST(IrqChipChoice, auto_is_split_for_vmx_svm_and_paravirtual_interrupts) {
  ResolvedCpu vmx = nested();
  EXPECT_EQ(choose_irqchip(std::nullopt, vmx)->kind, IrqChipKind::Split);
  EXPECT_EQ(choose_irqchip(std::nullopt, vmx)->reason, "haswell@4,+vmx has vmx");
  ResolvedCpu svm = plain();
  svm.cpuid.at(0x80000001).ecx = 1u << 2;
  EXPECT_EQ(choose_irqchip(std::nullopt, svm)->kind, IrqChipKind::Split);
  ResolvedCpu paravirtual = plain();
  paravirtual.cpuid.at(0x40000001).eax = 1u << 7;
  EXPECT_EQ(choose_irqchip(std::nullopt, paravirtual)->kind, IrqChipKind::Split);
}

TEST(IrqChipChoice, the_kvm_clock_does_not_need_kvms_lapic) {
  ResolvedCpu cpu = plain();
  cpu.cpuid.at(0x40000001).eax = 1u << 3 | 1u << 0 | 1u << 24;
  EXPECT_EQ(choose_irqchip(std::nullopt, cpu)->kind, IrqChipKind::User);
}

TEST(IrqChipChoice, a_chip_asked_for_is_taken) {
  ResolvedCpu cpu = nested();
  EXPECT_EQ(choose_irqchip(IrqChipKind::Kernel, cpu)->kind, IrqChipKind::Kernel);
  EXPECT_EQ(choose_irqchip(IrqChipKind::Split, cpu)->kind, IrqChipKind::Split);
  EXPECT_FALSE(choose_irqchip(IrqChipKind::Split, cpu)->may_change);
}

TEST(IrqChipChoice, strict_refuses_a_user_chip_that_cannot_carry_the_model) {
  ResolvedCpu cpu = nested();
  const auto choice = choose_irqchip(IrqChipKind::User, cpu);
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().kind(), ErrorKind::Host);
  EXPECT_NE(choice.error().text().find("vmx (1.ECX[5])"), std::string::npos)
      << choice.error().text();
}

TEST(IrqChipChoice, mask_takes_the_bits_away_and_lists_them) {
  ResolvedCpu cpu = nested(CpuPolicy::Mask);
  EXPECT_EQ(choose_irqchip(IrqChipKind::User, cpu)->kind, IrqChipKind::User);
  EXPECT_EQ(cpu.cpuid.get(1).ecx, 1u << 21);
  ASSERT_EQ(cpu.missing.size(), 1u);
  EXPECT_EQ(cpu.missing[0].name, "vmx");
  EXPECT_EQ(cpu.missing[0].refused_by, "--irqchip user");
}

TEST(IrqChipChoice, force_keeps_the_bits_and_lists_them) {
  ResolvedCpu cpu = nested(CpuPolicy::Force);
  EXPECT_EQ(choose_irqchip(IrqChipKind::User, cpu)->kind, IrqChipKind::User);
  EXPECT_NE(cpu.cpuid.get(1).ecx & 1u << 5, 0u);
  EXPECT_EQ(cpu.missing.size(), 1u);
}

}  // namespace
}  // namespace vmm
