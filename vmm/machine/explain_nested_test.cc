#include "vmm/machine/explain_nested.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/nested/svm_fake.h"
#include "vmm/nested/vmx_entry_fake.h"

namespace vmm {
namespace {

using nested::FakeEntry;
using nested::VmcsField;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A vCPU whose hypervisor has this VMCS, at rest.
struct Scene {
  Scene() {
    scene.outcome = ending::HaltedForever{};
    scene.vcpus.resize(1);
    scene.vcpus[0].sregs.efer = spec::EFER_LMA | spec::EFER_LME;
    scene.vcpus[0].sregs.cr0 = 0x80000031;
    scene.vcpus[0].sregs.cs.l = 1;
    scene.vcpus[0].mp_state = KVM_MP_STATE_HALTED;
    scene.cpuid = fake.cpuid;
    scene.memory = &fake.ram;
    scene.kvm_backend = "vmx";
  }
  CrashCard card(bool in_l2 = false) {
    std::vector<std::uint8_t> blob(128 + 4096);
    store(std::span(blob), 0, std::uint16_t{in_l2});
    store(std::span(blob), 4, static_cast<std::uint32_t>(blob.size()));
    store(std::span(blob), 8, std::uint64_t{0x2000});
    store(std::span(blob), 16, std::uint64_t{0x3000});
    std::ranges::copy(fake.entry.vmcs.bytes(), blob.begin() + 128);
    scene.hypervisors = {{blob, fake.msrs}};
    return explain(scene);
  }
  FakeEntry fake;
  CrashScene scene;
};

TEST(ExplainNested, a_refused_entry_is_named_by_its_rule) {
  Scene s;
  s.fake.set(VmcsField::HostTrSelector, 0);
  s.fake.set(VmcsField::VmInstructionError, 8);
  const CrashCard card = s.card();
  EXPECT_EQ(card.rule, "vm-entry-i098");
  EXPECT_EQ(card.cause,
            "the guest hypervisor's VM entry failed on vCPU 0: HOST_TR selector must not be 0");
  EXPECT_THAT(card.text(), HasSubstr("VM-instruction error 8 (VM entry with invalid host-state"));
  EXPECT_THAT(card.text(), HasSubstr("Host TR selector (0C0Ch) is 0000h"));
}

TEST(ExplainNested, a_guest_state_that_the_processor_refuses_is_named_too) {
  Scene s;
  s.fake.set(VmcsField::GuestRflags, 0);
  s.fake.set(VmcsField::VmExitReason, 0x80000021);
  EXPECT_EQ(s.card().rule, "vm-entry-i182");
}

TEST(ExplainNested, an_old_error_number_is_no_cause) {
  Scene s;
  s.fake.set(VmcsField::VmInstructionError, 8);
  const CrashCard card = s.card();
  EXPECT_EQ(card.rule, "halted-with-interrupts-off");
  EXPECT_THAT(card.text(), HasSubstr("vCPU 0 is in L1: VMXON region 2000h, current VMCS 3000h"));
  EXPECT_THAT(card.text(), Not(HasSubstr("failed")));
}

TEST(ExplainNested, a_breach_without_a_failed_entry_is_told_and_not_blamed) {
  Scene s;
  s.fake.set(VmcsField::HostTrSelector, 0);
  const CrashCard card = s.card();
  EXPECT_EQ(card.rule, "halted-with-interrupts-off");
  EXPECT_THAT(card.text(), HasSubstr("I098"));
}

TEST(ExplainNested, a_vcpu_in_l2_says_where_l1_goes_on) {
  Scene s;
  const CrashCard card = s.card(true);
  EXPECT_THAT(card.text(), HasSubstr("vCPU 0 is in L2 (the registers are L2's); an exit goes on in "
                                     "L1 at 100000h"));
}

TEST(ExplainNested, l2_whose_code_ept_does_not_map_shows_the_walk) {
  Scene s;
  // Tables of L2 at 1000h, which EPT maps; its code at 200000h, which it does not.
  s.fake.set(VmcsField::EptPointer, 0x9000 | 3 << 3 | 6);
  s.fake.ram.put64(0x9000, 0xa007);
  s.fake.ram.put64(0xa000, 0xb007);
  s.fake.ram.put64(0xb000, 0xc007);
  for (std::uint64_t page = 0; page < 16; ++page)
    s.fake.ram.put64(0xc000 + page * 8, page << 12 | 6 << 3 | 7);
  s.fake.ram.put64(0x1000, 0x4003);
  s.fake.ram.put64(0x4000, 0x5003);
  s.fake.ram.put64(0x5008, 0x200083);
  CpuState& cpu = s.scene.vcpus[0];
  cpu.sregs.cr0 = 0x80000031;
  cpu.sregs.cr3 = 0x1000;
  cpu.sregs.cr4 = spec::CR4_PAE;
  cpu.regs.rip = 0x200010;
  const std::string text = s.card(true).text();
  EXPECT_THAT(text, HasSubstr("L2's RIP 200010h is at 200010h of its memory:"));
  EXPECT_THAT(text, HasSubstr("EPT violation: the EPT PDE is not present"));
}

// One stands before the instruction, which has not been executed yet.
TEST(ExplainNested, an_entry_that_was_caught_is_the_cause) {
  Scene s;
  s.fake.set(VmcsField::HostTrSelector, 0);
  s.scene.outcome = ending::Caught{0, "VMLAUNCH at 7000h"};
  CpuState& cpu = s.scene.vcpus[0];
  cpu.sregs.cr0 = 0x31;
  cpu.sregs.cr4 = 0x2000;
  cpu.sregs.cs.db = 1;
  cpu.sregs.efer = 0;
  cpu.regs.rip = 0x7000;
  cpu.regs.rflags = 2;
  s.fake.ram.put(0x7000, {0x0f, 0x01, 0xc2});
  s.fake.host32();
  const CrashCard card = s.card();
  EXPECT_EQ(card.rule, "vm-entry-i098") << card.text();
  EXPECT_EQ(card.cause,
            "the guest hypervisor's VMLAUNCH on vCPU 0 would fail: HOST_TR selector must not be 0");
  EXPECT_THAT(card.text(), HasSubstr("vCPU 0 is in L1 at VMLAUNCH 7000h: VMXON region 2000h"));
  EXPECT_THAT(card.text(), HasSubstr("it would give VMfail, VM-instruction error 8"));
  EXPECT_THAT(card.text(), HasSubstr("caught on vCPU 0: VMLAUNCH at 7000h would fail"));
}

// The first of the two stories: XSAVES in CPUID, and no control for it.
struct WithoutXsaves : Scene {
  WithoutXsaves() {
    fake.on(VmcsField::ProcBasedControls, nested::kActivateSecondary);
    fake.off(VmcsField::ProcBasedControls2, nested::kEnableXsaves);
    fake.set_msr(0x48b, 0x000378ef00000000);
    scene.cpuid.at(0xd, 1).eax = 1u << 3;
    scene.capability_origin = [](std::uint32_t msr, unsigned bit) {
      return msr == 0x48b && bit == 52 ? "@4 of the model has it" : "";
    };
  }
};

TEST(ExplainNested, a_reset_out_of_l2_names_the_instruction_that_l2_lacks) {
  WithoutXsaves s;
  s.scene.outcome = ending::Reset{};
  const CrashCard card = s.card(true);
  EXPECT_EQ(card.rule, "reset-from-l2");
  EXPECT_EQ(card.cause,
            "XSAVES is #UD in L2: \"enable XSAVES/XRSTORS\" (SECONDARY[20]) is 0, and "
            "IA32_VMX_PROCBASED_CTLS2 (48Bh) does not allow it, while CPUID Dh.1.EAX[3] offers it; "
            "@4 of the model has it");
  EXPECT_THAT(card.text(), HasSubstr("L2 on vCPU 0 asked for the reset"));
}

TEST(ExplainNested, what_l2_lacks_is_told_beside_another_cause) {
  WithoutXsaves s;
  EXPECT_THAT(s.card(true).text(), HasSubstr("XSAVES is #UD in L2"));
  EXPECT_EQ(s.card(true).rule, "halted-with-interrupts-off");
  EXPECT_THAT(s.card(false).text(), Not(HasSubstr("#UD in L2"))) << "L2 has not run by this VMCS";
}

TEST(ExplainNested, the_death_of_l2_at_such_an_instruction_is_its_cause) {
  WithoutXsaves s;
  s.scene.outcome = ending::TripleFault{0};
  s.fake.ram.put64(0x1000, 0x4003);
  s.fake.ram.put64(0x4000, 0x5003);
  s.fake.ram.put64(0x5000, 0x83);
  s.fake.ram.put(0x7000, {0x48, 0x0f, 0xc7, 0x2f});
  CpuState& cpu = s.scene.vcpus[0];
  cpu.sregs.cr3 = 0x1000;
  cpu.sregs.cr4 = spec::CR4_PAE | spec::CR4_OSXSAVE;
  cpu.regs.rip = 0x7000;
  const CrashCard card = s.card(true);
  EXPECT_EQ(card.rule, "instruction-denied-to-l2") << card.text();
  EXPECT_THAT(card.cause, HasSubstr("#UD: xsaves64 [rdi] at 7000h: XSAVES is #UD in L2"));
}

// KVM's nested state of an SVM vCPU in L2: controls of L2, registers of its hypervisor.
std::vector<std::uint8_t> svm_state_in_l2() {
  nested::FakeSvm svm;
  svm.put(nested::VmcbId::Efer, spec::EFER_LME | spec::EFER_LMA | spec::EFER_SVME);
  svm.put(nested::VmcbId::Cr4, spec::CR4_PAE);
  svm.put(nested::VmcbId::NCr3, 0x9000);
  svm.put(nested::VmcbId::Rip, 0x7003);
  std::vector<std::uint8_t> blob(128 + 4096);
  store(std::span(blob), 0, std::uint16_t{1});
  store(std::span(blob), 2, std::uint16_t{1});
  store(std::span(blob), 4, static_cast<std::uint32_t>(blob.size()));
  store(std::span(blob), 8, std::uint64_t{0x6000});
  std::ranges::copy(svm.bytes, blob.begin() + 128);
  return blob;
}

TEST(ExplainNested, memory_of_an_l2_of_svm_is_read_through_nested_tables) {
  Scene s;
  s.scene.cpuid = {};
  s.scene.hypervisors = {{svm_state_in_l2(), {}}};
  s.fake.ram.put64(0x9000, 0xa007);
  s.fake.ram.put64(0xa000, 0xb007);
  s.fake.ram.put64(0xb000, 0xc007);
  s.fake.ram.put64(0xc008, 0xd007);  // 1000h of L2's memory is at D000h
  s.fake.ram.put(0xd010, {0x5a});
  const auto l2 = l2_memory(s.scene, 0);
  ASSERT_NE(l2, nullptr);
  EXPECT_EQ(l2->place(0x1010), 0xd010u);
  EXPECT_EQ(l2->read_value<std::uint8_t>(0x1010), 0x5a);
  EXPECT_EQ(l2->place(0x2000), std::nullopt);
  EXPECT_THAT(l2->describe(0x2000), Contains(HasSubstr("EXITINFO1")));
  const NestedFinding finding = nested_findings(s.scene).front();
  EXPECT_THAT(finding.lines,
              Contains(HasSubstr("by the VMCB at 6000h; an exit goes on in L1 at 7003h")));
  // Its tables are to be at 0, which is not mapped for it.
  ASSERT_EQ(finding.walks.size(), 1u);
  EXPECT_EQ(finding.walks[0].of, "rip");
  ASSERT_TRUE(finding.walks[0].walk.failure);
  EXPECT_FALSE(finding.walks[0].nested);
  const auto walk = walk_nested(s.scene, 0, 0x1010, true);
  ASSERT_TRUE(walk);
  EXPECT_EQ(walk->gpa, 0xd010u);
  ASSERT_EQ(walk->steps.size(), 4u);
  EXPECT_EQ(walk->steps[3].at, 0xc008u);
  EXPECT_EQ(walk->steps[3].value, 0xd007u);
  EXPECT_THAT(walk_nested(s.scene, 0, 0x2000, false)->failure, HasSubstr("not present"));
  EXPECT_FALSE(walk_nested(s.scene, 1, 0, false)) << "no such vCPU";
}

TEST(ExplainNested, a_vcpu_in_l2_lands_where_its_hypervisor_goes_on) {
  Scene s;
  s.scene.hypervisors = {{svm_state_in_l2(), {}}};
  const NestedPosition of_svm = nested_position(s.scene, 0);
  EXPECT_EQ(of_svm.level, 2u);
  EXPECT_THAT(of_svm.landings, testing::ElementsAre(0x7003));
  s.fake.set(VmcsField::HostRip, 0x123000);
  s.card(true);
  EXPECT_THAT(nested_position(s.scene, 0).landings, testing::ElementsAre(0x123000));
  EXPECT_EQ(nested_position(s.scene, 1).level, 1u) << "no such vCPU";
}

// L2 has gone through no tables, and L1 has some.
TEST(ExplainNested, addresses_of_the_level_that_the_vcpu_is_not_in_are_known) {
  Scene s;
  s.fake.set(VmcsField::GuestCr0, spec::CR0_PE);
  s.fake.off(VmcsField::VmEntryControls, nested::kIa32eModeGuest);
  s.fake.set(VmcsField::HostCr3, 0x9000);
  s.card();
  EXPECT_TRUE(nested_position(s.scene, 0).may_nest);
  EXPECT_FALSE(nested_position(s.scene, 0).other) << "it has not run yet";
  EXPECT_EQ(nested_position(s.scene, 0).block, 0x3000u);
  s.fake.entry.vmcs.set_launch_state(1);
  s.card();
  const NestedPosition in_l1 = nested_position(s.scene, 0);
  ASSERT_TRUE(in_l1.other);
  EXPECT_EQ(in_l1.other->paging.mode(), PagingMode::None);
  EXPECT_EQ(in_l1.other->paging.efer & spec::EFER_LMA, 0u);
  ASSERT_NE(in_l1.other->memory, nullptr);
  EXPECT_EQ(in_l1.memory, nullptr);
  EXPECT_EQ(in_l1.tables, 0u);
  s.card(true);
  const NestedPosition in_l2 = nested_position(s.scene, 0);
  ASSERT_TRUE(in_l2.other);
  EXPECT_EQ(in_l2.other->paging.cr3, 0x9000u);
  EXPECT_EQ(in_l2.other->paging.mode(), PagingMode::Level4);
  EXPECT_EQ(in_l2.other->memory, nullptr);
  EXPECT_EQ(in_l2.tables, s.fake.entry.vmcs.get(VmcsField::EptPointer));
  s.scene.hypervisors = {{svm_state_in_l2(), {}}};
  const NestedPosition of_svm = nested_position(s.scene, 0);
  ASSERT_TRUE(of_svm.other);
  EXPECT_EQ(of_svm.block, 0x6000u);
  EXPECT_EQ(of_svm.tables, 0x9000u);
}

TEST(ExplainNested, a_vcpu_before_a_vm_entry_lands_in_l2_or_behind_it) {
  Scene s;
  s.fake.set(VmcsField::HostRip, 0x123000);
  s.fake.set(VmcsField::GuestRip, 0x7c00);
  s.scene.vcpus[0] = CpuState{};
  s.scene.vcpus[0].sregs.cr0 = spec::CR0_PE;
  s.scene.vcpus[0].sregs.cs.db = 1;
  s.scene.vcpus[0].regs.rip = 0x7000;
  s.fake.ram.put(0x7000, {0x0f, 0x01, 0xc3});
  s.card();
  const NestedPosition position = nested_position(s.scene, 0);
  EXPECT_TRUE(position.enters);
  EXPECT_THAT(position.landings, testing::ElementsAre(0x7003, 0x7c00, 0x123000));
  s.fake.ram.put(0x7000, {0x90});
  EXPECT_FALSE(nested_position(s.scene, 0).enters);
}

TEST(ExplainNested, a_missing_capability_says_who_keeps_it) {
  Scene s;
  s.fake.set_msr(0x48b, 0xffefffff00000000);
  s.fake.secondary(nested::kEnableXsaves);
  s.fake.set(VmcsField::VmInstructionError, 7);
  s.scene.capability_origin = [](std::uint32_t msr, unsigned bit) {
    return msr == 0x48b && bit == 52 ? "skylake-client@3 lacks it" : "";
  };
  EXPECT_THAT(s.card().text(), HasSubstr("skylake-client@3 lacks it"));
}

TEST(ExplainNested, many_breaches_are_cut) {
  Scene s;
  s.fake.entry.vmcs = nested::empty_vmcs();
  s.fake.set(VmcsField::VmInstructionError, 7);
  const CrashCard card = s.card();
  EXPECT_LE(card.lines.size(), kMaxCardLines);
  EXPECT_THAT(nested_findings(s.scene).front().lines, Contains(HasSubstr("more")));
}

TEST(ExplainNested, bytes_that_are_no_state_say_nothing) {
  Scene s;
  s.scene.hypervisors = {{std::vector<std::uint8_t>(100, 0xff), {}}};
  EXPECT_THAT(nested_findings(s.scene), IsEmpty());
  EXPECT_EQ(explain(s.scene).rule, "halted-with-interrupts-off");
}

}  // namespace
}  // namespace vmm
