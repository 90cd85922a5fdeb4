#include "vmm/gdb/control_registers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/gdb/registers_fake.h"

namespace vmm::gdb {
namespace {

using ::testing::HasSubstr;
using namespace spec;

class ControlRegisters : public ::testing::Test {
 protected:
  // The reason of a refusal, "" where there was none.
  std::string write(Control which, std::uint64_t value) {
    const auto result = write_control(which, r_, value, ControlLimits::of(cpuid_));
    return result ? "" : result.error().text();
  }
  static std::string reason(const Result<void>& result) {
    return result ? "" : result.error().text();
  }
  kvm_sregs& s() { return r_.cpu.sregs; }

  CpuidTable cpuid_ = full_cpuid();
  DebugRegisters r_ = long_mode_registers();
};

TEST_F(ControlRegisters, cr0_follows_the_rules_of_mov) {
  EXPECT_THAT(write(Control::Cr0, 1ull << 32 | s().cr0), HasSubstr("63:32"));
  EXPECT_THAT(write(Control::Cr0, CR0_PG), HasSubstr("PG needs PE"));
  EXPECT_THAT(write(Control::Cr0, s().cr0 | CR0_NW), HasSubstr("NW needs CD"));
  EXPECT_THAT(write(Control::Cr0, CR0_PE), HasSubstr("64-bit code cannot go without PG"));
  EXPECT_EQ(write(Control::Cr0, s().cr0 | CR0_WP | 0x40), "");
  EXPECT_EQ(s().cr0, CR0_PG | CR0_WP | CR0_ET | CR0_PE);  // bit 6 is reserved
  EXPECT_EQ(write(Control::Cr0, CR0_PG | CR0_PE), "");
  EXPECT_EQ(s().cr0, CR0_PG | CR0_PE | CR0_ET);
}

TEST_F(ControlRegisters, efer_lma_is_what_paging_makes_of_lme) {
  s().cs.l = 0;
  EXPECT_EQ(write(Control::Cr0, CR0_PE), "");
  EXPECT_EQ(s().efer, EFER_LME);
  EXPECT_EQ(write(Control::Efer, EFER_LME | EFER_LMA | EFER_NXE), "");
  EXPECT_EQ(s().efer, EFER_LME | EFER_NXE);
  s().cr4 = 0;
  EXPECT_THAT(write(Control::Cr0, CR0_PE | CR0_PG), HasSubstr("needs CR4.PAE"));
  s().cr4 = CR4_PAE;
  EXPECT_EQ(write(Control::Cr0, CR0_PE | CR0_PG), "");
  EXPECT_EQ(s().efer, EFER_LME | EFER_NXE | EFER_LMA);
  EXPECT_THAT(write(Control::Efer, 0), HasSubstr("LME does not change while CR0.PG is 1"));
  EXPECT_THAT(write(Control::Efer, s().efer | 2), HasSubstr("bits 0x2 are reserved"));
}

TEST_F(ControlRegisters, cr3_has_the_width_of_the_mode) {
  EXPECT_EQ(write(Control::Cr3, 0xfffffff000), "");
  EXPECT_THAT(write(Control::Cr3, 1ull << 40), HasSubstr("bits from 40 on"));
  s().efer = 0;
  EXPECT_THAT(write(Control::Cr3, 1ull << 32), HasSubstr("bits from 32 on"));
}

TEST_F(ControlRegisters, cr4_keeps_what_long_mode_needs) {
  EXPECT_THAT(write(Control::Cr4, 0), HasSubstr("long mode needs PAE"));
  EXPECT_THAT(write(Control::Cr4, CR4_PAE | CR4_LA57), HasSubstr("LA57"));
  EXPECT_THAT(write(Control::Cr4, CR4_PAE | 1ull << 33), HasSubstr("63:33"));
  EXPECT_EQ(write(Control::Cr4, CR4_PAE | CR4_PCIDE), "");
  s().efer = 0;
  EXPECT_THAT(write(Control::Cr4, CR4_PCIDE), HasSubstr("PCIDE"));
}

TEST_F(ControlRegisters, cr8_is_a_priority) {
  EXPECT_EQ(write(Control::Cr8, 15), "");
  EXPECT_EQ(s().cr8, 15U);
  EXPECT_THAT(write(Control::Cr8, 16), HasSubstr("cr8 cannot be 0x10"));
}

TEST_F(ControlRegisters, xcr0_takes_the_sets_that_xsetbv_takes) {
  for (const std::uint64_t good : {1u, 3u, 7u, 0xe7u}) EXPECT_EQ(write(Control::Xcr0, good), "");
  EXPECT_THAT(write(Control::Xcr0, 2), HasSubstr("always set"));
  EXPECT_THAT(write(Control::Xcr0, 5), HasSubstr("AVX needs SSE"));
  EXPECT_THAT(write(Control::Xcr0, 0x27), HasSubstr("go together"));
  EXPECT_THAT(write(Control::Xcr0, 0xe3), HasSubstr("need AVX"));
  EXPECT_THAT(write(Control::Xcr0, 0x207), HasSubstr("this CPU has 0xe7"));
  cpuid_ = {};
  EXPECT_THAT(write(Control::Xcr0, 3), HasSubstr("this CPU has 0x0"));
}

TEST_F(ControlRegisters, fixed_bits_of_the_debug_registers_stay) {
  EXPECT_EQ(write(Control::Dr6, 0), "");
  EXPECT_EQ(r_.cpu.debugregs.dr6, 0xffff0ff0U);
  EXPECT_EQ(write(Control::Dr6, 0x1001), "");
  EXPECT_EQ(r_.cpu.debugregs.dr6, 0xffff0ff1U);
  EXPECT_EQ(write(Control::Dr7, 0xffffffff), "");
  EXPECT_EQ(r_.cpu.debugregs.dr7, 0xffff27ffU);
  EXPECT_THAT(write(Control::Dr6, 1ull << 32), HasSubstr("dr6"));
  EXPECT_THAT(write(Control::Dr7, 1ull << 32), HasSubstr("dr7"));
  cpuid_.at(7).ebx |= 1u << 11;
  cpuid_.at(7).ecx |= 1u << 24;
  EXPECT_EQ(write(Control::Dr6, 0), "");
  EXPECT_EQ(r_.cpu.debugregs.dr6, 0xfffe07f0U);
  EXPECT_EQ(write(Control::Dr7, 0x800), "");
  EXPECT_EQ(r_.cpu.debugregs.dr7, 0xc00U);
}

TEST_F(ControlRegisters, rip_is_canonical_or_has_32_bits) {
  EXPECT_EQ(reason(write_rip(r_, 0xffff800000000000)), "");
  EXPECT_EQ(r_.cpu.regs.rip, 0xffff800000000000);
  EXPECT_THAT(reason(write_rip(r_, 0x800000000000)), HasSubstr("not canonical"));
  s().cs.l = 0;
  EXPECT_THAT(reason(write_rip(r_, 0x100000000)), HasSubstr("32 bits"));
}

TEST_F(ControlRegisters, reserved_flags_are_forced_and_vm_needs_legacy_protected_mode) {
  EXPECT_EQ(reason(write_rflags(r_, ~RFLAGS_VM)), "");
  EXPECT_EQ(r_.cpu.regs.rflags, 0x3d7fd7U);
  EXPECT_EQ(reason(write_rflags(r_, 0)), "");
  EXPECT_EQ(r_.cpu.regs.rflags, 2U);
  EXPECT_THAT(reason(write_rflags(r_, RFLAGS_VM)), HasSubstr("long mode has no"));
  s().efer = 0;
  EXPECT_EQ(reason(write_rflags(r_, RFLAGS_VM)), "");
  s().cr0 = 0;
  EXPECT_THAT(reason(write_rflags(r_, RFLAGS_VM)), HasSubstr("needs protected mode"));
}

}  // namespace
}  // namespace vmm::gdb
