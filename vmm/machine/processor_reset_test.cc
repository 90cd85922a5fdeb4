#include "vmm/machine/processor_reset.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

CpuState used() {
  CpuState state;
  state.regs.rax = state.regs.rsp = state.regs.r15 = 0x1234;
  state.regs.rflags = spec::RFLAGS_IF | spec::RFLAGS_FIXED;
  state.sregs.cr0 = spec::CR0_PE | spec::CR0_PG | spec::CR0_CD | spec::CR0_NW;
  state.sregs.cr2 = state.sregs.cr3 = state.sregs.cr4 = state.sregs.cr8 = 5;
  state.sregs.efer = spec::EFER_LMA | spec::EFER_LME;
  state.sregs.apic_base = 0xfed40800;
  state.sregs.gdt.base = 0x1000;
  state.debugregs.db[0] = 7;
  state.events.interrupt.injected = 1;
  state.events.nmi.pending = 1;
  return state;
}

TEST(ProcessorReset, init_leaves_the_registers_of_the_manuals_table) {
  const CpuState after = after_init(used(), 0x50654);
  EXPECT_EQ(after.regs.rip, 0xfff0u);
  EXPECT_EQ(after.regs.rdx, 0x50654u);
  EXPECT_EQ(after.regs.rax | after.regs.rsp | after.regs.r15, 0u);
  EXPECT_EQ(after.regs.rflags, 2u);
  EXPECT_EQ(after.sregs.cs.selector, 0xf000);
  EXPECT_EQ(after.sregs.cs.base, 0xffff0000u);
  EXPECT_EQ(after.sregs.ds.limit, 0xffffu);
  EXPECT_EQ(after.sregs.gdt.base, 0u);
  EXPECT_EQ(after.sregs.idt.limit, 0xffff);
  EXPECT_EQ(after.sregs.cr2 | after.sregs.cr3 | after.sregs.cr4 | after.sregs.cr8, 0u);
  EXPECT_EQ(after.sregs.efer, 0u);
  EXPECT_EQ(after.debugregs.db[0], 0u);
  EXPECT_EQ(after.debugregs.dr6, 0xffff0ff0u);
  EXPECT_EQ(after.debugregs.dr7, 0x400u);
}

TEST(ProcessorReset, init_keeps_cache_control_and_the_apic_base) {
  const CpuState after = after_init(used(), 0);
  EXPECT_EQ(after.sregs.cr0, spec::CR0_ET | spec::CR0_CD | spec::CR0_NW);
  EXPECT_EQ(after.sregs.apic_base, 0xfed40800u);
}

TEST(ProcessorReset, init_drops_pending_events) {
  const CpuState after = after_init(used(), 0);
  EXPECT_EQ(after.events.interrupt.injected, 0);
  EXPECT_EQ(after.events.nmi.pending, 0);
  EXPECT_NE(after.events.flags & KVM_VCPUEVENT_VALID_NMI_PENDING, 0u);
}

TEST(ProcessorReset, a_sipi_starts_at_its_page_in_real_mode) {
  CpuState state = after_init(used(), 0);
  start_at(state, 0x9a);
  EXPECT_EQ(state.sregs.cs.selector, 0x9a00);
  EXPECT_EQ(state.sregs.cs.base, 0x9a000u);
  EXPECT_EQ(state.regs.rip, 0u);
  EXPECT_EQ(state.sregs.cr0 & spec::CR0_PE, 0u);
}

}  // namespace
}  // namespace vmm
