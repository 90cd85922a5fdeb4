// These tests use the real /dev/kvm and are skipped, with the reason, where there is none.
#include "vmm/kvm/kvm.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

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
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
  const auto vcpu = *vm->create_vcpu(0);
  CpuidTable table = *kvm.supported_cpuid();
  table.at(0x80000005).eax = 0x12345678;
  ASSERT_TRUE(vcpu->set_cpuid(table));
  EXPECT_EQ(vcpu->cpuid()->get(0x80000005).eax, 0x12345678u);
}

TEST_F(KvmTest, too_many_cpuid_entries_name_the_ioctl_the_errno_and_the_count) {
  const Kvm kvm = *Kvm::open();
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
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
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
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

// A machine in real mode for a few instructions at 1000h, with a CPUID that has x2APIC and no
// paravirtual leaf. Vector 6 (#UD) leads to an OUT to port 66h.
class KvmCodeTest : public KvmTest {
 protected:
  void SetUp() override {
    KvmTest::SetUp();
    if (IsSkipped()) return;
    kvm_.emplace(*Kvm::open());
    memory_.emplace(*GuestMemory::create(1_MiB));
    vm_ = *Vm::create(*kvm_, IrqChipKind::Kernel);
    ASSERT_TRUE(vm_->map(*memory_));
    vcpu_ = *vm_->create_vcpu(0);
    CpuidTable cpuid = *kvm_->supported_cpuid();
    cpuid.erase(0x40000000);
    cpuid.erase(0x40000001);
    cpuid.at(0x40000000) = {0x40000000, 0, 0, 0};
    cpuid.at(1).ecx |= 1U << 21;    // x2APIC
    cpuid.at(1).ecx &= ~(1U << 3);  // no MONITOR
    ASSERT_TRUE(vcpu_->set_cpuid(cpuid));
    vcpu_->bind_to_this_thread();
    put(6 * 4, {0x00, 0x20, 0x00, 0x00});  // vector 6: 0000:2000h
    put(0x2000, {0xe6, 0x66, 0xf4});       // out 66h, al; hlt
  }
  void put(Gpa gpa, std::vector<std::uint8_t> bytes) { ASSERT_TRUE(memory_->write(gpa, bytes)); }
  bool disabled(std::string_view quirk) const {
    return (vm_->disabled_quirks() & find_quirk(quirk)->bit) != 0;
  }
  // Runs the code at 1000h up to its first exit.
  Exit run(std::vector<std::uint8_t> code, std::uint64_t rcx = 0, std::uint64_t apic_base = 0) {
    put(0x1000, std::move(code));
    CpuState state = *vcpu_->state();
    state.sregs.cs.base = 0;
    state.sregs.cs.selector = 0;
    state.sregs.ds.limit = 0xffffffff;
    state.sregs.ds.g = 1;
    if (apic_base != 0) state.sregs.apic_base = apic_base;
    state.regs.rip = 0x1000;
    state.regs.rcx = rcx;
    state.regs.rsp = 0x8000;
    state.regs.rflags = spec::RFLAGS_FIXED;
    EXPECT_TRUE(vcpu_->set_state(state));
    const auto exit = vcpu_->run();
    EXPECT_TRUE(exit) << exit.error().text();
    return exit ? *exit : Exit{Interrupted{}};
  }

  std::optional<Kvm> kvm_;
  std::optional<GuestMemory> memory_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
};

TEST_F(KvmCodeTest, the_apic_page_is_gone_in_x2apic_mode) {
  if (!disabled("lapic-mmio-hole")) GTEST_SKIP() << "this KVM cannot do without the quirk";
  constexpr std::uint64_t kEnabledX2apicBsp = 0xfee00000 | 1U << 11 | 1U << 10 | 1U << 8;
  // mov eax, ds:[fee00030h]: the version register.
  const std::vector<std::uint8_t> code = {0x67, 0x66, 0xa1, 0x30, 0x00, 0xe0, 0xfe, 0xe6, 0xf4};
  EXPECT_TRUE(std::holds_alternative<PioOut>(run(code)));
  const Exit exit = run(code, 0, kEnabledX2apicBsp);
  ASSERT_TRUE(std::holds_alternative<MmioRead>(exit)) << to_string(exit);
  EXPECT_EQ(std::get<MmioRead>(exit).gpa, 0xfee00030u);
}

TEST_F(KvmCodeTest, a_processor_in_system_management_mode_sees_the_same_memory) {
  if (*kvm_->capability(capability::X86_SMM) == 0) GTEST_SKIP() << "this KVM has no SMM";
  put(0x38000, {0xe6, 0x66, 0x0f, 0xaa});  // out 66h, al; rsm
  // mov dword ds:[fee00300h], 44200h: an SMI to itself; out f4h, al.
  const Exit inside =
      run({0x67, 0x66, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x42, 0x04, 0x00, 0xe6, 0xf4});
  ASSERT_TRUE(std::holds_alternative<PioOut>(inside)) << to_string(inside);
  EXPECT_EQ(std::get<PioOut>(inside).port, 0x66);
  const auto after = vcpu_->run();
  ASSERT_TRUE(after);
  ASSERT_TRUE(std::holds_alternative<PioOut>(*after)) << to_string(*after);
  EXPECT_EQ(std::get<PioOut>(*after).port, 0xf4);
}

TEST_F(KvmCodeTest, a_hypercall_of_the_other_vendor_is_undefined_and_stays_as_it_is) {
  if (!disabled("fix-hypercall-insn")) GTEST_SKIP() << "this KVM cannot do without the quirk";
  const bool amd = kvm_->supported_cpuid()->vendor() == "AuthenticAMD";
  const std::uint8_t last = amd ? 0xc1 : 0xd9;  // vmcall : vmmcall
  const Exit exit = run({0x0f, 0x01, last, 0xe6, 0xf4});
  ASSERT_TRUE(std::holds_alternative<PioOut>(exit)) << to_string(exit);
  EXPECT_EQ(std::get<PioOut>(exit).port, 0x66);
  EXPECT_EQ(memory_->read_value<std::uint8_t>(0x1002), last);
}

TEST_F(KvmCodeTest, a_paravirtual_msr_needs_its_cpuid_bit) {
  const auto& enabled = vm_->enabled();
  if (std::find(enabled.begin(), enabled.end(), "ENFORCE_PV_FEATURE_CPUID") == enabled.end())
    GTEST_SKIP() << "this KVM has no KVM_CAP_ENFORCE_PV_FEATURE_CPUID";
  constexpr std::uint32_t kWallClockNew = 0x4b564d00;
  const Exit exit = run({0x0f, 0x32, 0xe6, 0xf4}, kWallClockNew);  // rdmsr
  ASSERT_TRUE(std::holds_alternative<MsrRead>(exit)) << to_string(exit);
  EXPECT_EQ(std::get<MsrRead>(exit).index, kWallClockNew);
}

TEST_F(KvmTest, quirks_go_before_any_vcpu_and_a_refusal_is_named) {
  const Kvm kvm = *Kvm::open();
  if (*kvm.capability(capability::DISABLE_QUIRKS2) == 0) GTEST_SKIP() << "no quirk can go";
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
  const auto offered = static_cast<std::uint32_t>(*kvm.capability(capability::DISABLE_QUIRKS2));
  EXPECT_EQ(vm->disabled_quirks(), usual_quirks_off() & offered);
  // Another choice, and KVM as it comes.
  const std::uint32_t one = find_quirk("lapic-mmio-hole")->bit & offered;
  EXPECT_EQ((*Vm::create(kvm, IrqChipKind::Kernel, one))->disabled_quirks(), one);
  EXPECT_EQ((*Vm::create(kvm, IrqChipKind::Kernel, std::nullopt))->disabled_quirks(), 0U);
  const auto& enabled = vm->enabled();
  EXPECT_NE(std::find(enabled.begin(), enabled.end(), "DISABLE_QUIRKS2"), enabled.end());
  std::string said;
  for (unsigned nth = 1; said.find("DISABLE_QUIRKS2") == std::string::npos; ++nth) {
    set_faults({{"KVM_ENABLE_CAP", EINVAL, nth}});
    const auto refused = Vm::create(kvm, IrqChipKind::Kernel);
    ASSERT_FALSE(refused) << "KVM_ENABLE_CAP never failed for the quirks";
    said = refused.error().text();
  }
  EXPECT_NE(said.find("KVM_ENABLE_CAP: EINVAL (KVM_CAP_DISABLE_QUIRKS2)"), std::string::npos);
}

TEST_F(KvmTest, a_kick_before_the_run_is_not_lost) {
  const Kvm kvm = *Kvm::open();
  GuestMemory memory = *GuestMemory::create(1_MiB);
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
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
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
  EXPECT_TRUE(vm->create_vcpu(0));
  const auto second = vm->create_vcpu(1);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text().find("KVM_CREATE_VCPU: ENOMEM (id=1)"), std::string::npos);
  EXPECT_TRUE(vm->create_vcpu(2));
}

TEST_F(KvmTest, an_msr_that_kvm_refuses_is_named) {
  const Kvm kvm = *Kvm::open();
  const auto vm = *Vm::create(kvm, IrqChipKind::Kernel);
  const auto vcpu = *vm->create_vcpu(0);
  const auto result = vcpu->set_msr(0xdeadbeef, 1);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().text().find("msr=deadbeefh"), std::string::npos);
}

}  // namespace
}  // namespace vmm
