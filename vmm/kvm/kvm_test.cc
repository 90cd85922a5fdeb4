// These tests use the real /dev/kvm and are skipped, with the reason, where there is none.
#include "vmm/kvm/kvm.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/fault.h"
#include "vmm/kvm/irqchip_kernel.h"
#include "vmm/kvm/vm.h"

namespace vmm {
namespace {

class KvmTest : public testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no access to /dev/kvm";
    install_kick_handler();
  }
  void TearDown() override { set_faults({}); }
};

TEST_F(KvmTest, supported_cpuid_has_the_base_leaves) {
  const Kvm kvm = *Kvm::open();
  const CpuidTable table = *kvm.supported_cpuid();
  ASSERT_NE(table.find(0), nullptr);
  ASSERT_NE(table.find(0x80000000), nullptr);
  EXPECT_EQ(table.vendor().size(), 12u);
}

TEST_F(KvmTest, cpuid_reads_back_as_it_was_set) {
  const Kvm kvm = *Kvm::open();
  const auto vm = *Vm::create(kvm);
  ASSERT_TRUE(vm->create_irqchip());
  const auto vcpu = *vm->create_vcpu(0);
  CpuidTable table = *kvm.supported_cpuid();
  table.at(0x80000005).eax = 0x12345678;
  ASSERT_TRUE(vcpu->set_cpuid(table));
  EXPECT_EQ(vcpu->cpuid()->get(0x80000005).eax, 0x12345678u);
}

TEST_F(KvmTest, too_many_cpuid_entries_name_the_ioctl_the_errno_and_the_count) {
  const Kvm kvm = *Kvm::open();
  const auto vm = *Vm::create(kvm);
  const auto vcpu = *vm->create_vcpu(0);
  CpuidTable table;
  for (std::uint32_t i = 0; i < 300; ++i) table.at(4, i).eax = i;
  const auto result = vcpu->set_cpuid(table);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().text().find("KVM_SET_CPUID2: E2BIG (nent=300)"), std::string::npos)
      << result.error().text();
}

// A guest of one instruction in real mode: out 0xf4, al.
TEST_F(KvmTest, a_vcpu_runs_a_port_write_and_settles_it) {
  const Kvm kvm = *Kvm::open();
  GuestMemory memory = *GuestMemory::create(1_MiB);
  const auto vm = *Vm::create(kvm);
  ASSERT_TRUE(vm->create_irqchip());
  ASSERT_TRUE(vm->map(memory));
  const auto vcpu = *vm->create_vcpu(0);
  ASSERT_TRUE(vcpu->set_cpuid(*kvm.supported_cpuid()));
  const std::uint8_t code[] = {0xe6, 0xf4, 0xf4};
  ASSERT_TRUE(memory.write(0x1000, code));
  CpuState state = *vcpu->state();
  state.sregs.cs.base = 0;
  state.sregs.cs.selector = 0;
  state.regs.rip = 0x1000;
  state.regs.rax = 0x2a;
  state.regs.rflags = spec::RFLAGS_FIXED;
  ASSERT_TRUE(vcpu->set_state(state));
  vcpu->bind_to_this_thread();
  const auto exit = vcpu->run();
  ASSERT_TRUE(exit);
  ASSERT_TRUE(std::holds_alternative<PioOut>(*exit)) << to_string(*exit);
  EXPECT_EQ(std::get<PioOut>(*exit).port, 0xf4);
  EXPECT_EQ(std::get<PioOut>(*exit).data[0], 0x2a);
  const auto settled = vcpu->settle();
  ASSERT_TRUE(settled);
  EXPECT_TRUE(std::holds_alternative<Interrupted>(*settled));
  EXPECT_EQ(vcpu->state()->regs.rip, 0x1002u);
}

TEST_F(KvmTest, a_kick_before_the_run_is_not_lost) {
  const Kvm kvm = *Kvm::open();
  GuestMemory memory = *GuestMemory::create(1_MiB);
  const auto vm = *Vm::create(kvm);
  ASSERT_TRUE(vm->map(memory));
  const auto vcpu = *vm->create_vcpu(0);
  vcpu->kick();
  const auto exit = vcpu->run();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(std::holds_alternative<Interrupted>(*exit));
}

TEST_F(KvmTest, a_planned_fault_strikes_the_named_call_only) {
  const Kvm kvm = *Kvm::open();
  set_faults({{"KVM_CREATE_VCPU", ENOMEM, 2}});
  const auto vm = *Vm::create(kvm);
  EXPECT_TRUE(vm->create_vcpu(0));
  const auto second = vm->create_vcpu(1);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text().find("KVM_CREATE_VCPU: ENOMEM (id=1)"), std::string::npos);
  EXPECT_TRUE(vm->create_vcpu(2));
}

TEST_F(KvmTest, an_msr_that_kvm_refuses_is_named) {
  const Kvm kvm = *Kvm::open();
  const auto vm = *Vm::create(kvm);
  const auto vcpu = *vm->create_vcpu(0);
  const auto result = vcpu->set_msr(0xdeadbeef, 1);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().text().find("msr=deadbeefh"), std::string::npos);
}

}  // namespace
}  // namespace vmm
