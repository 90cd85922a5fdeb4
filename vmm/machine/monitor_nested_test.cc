// monitor level, vmcs and vmcb at a vCPU whose hypervisor is known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/base/bytes.h"
#include "vmm/core/nested_memory_fake.h"
#include "vmm/machine/monitor_rig.h"
#include "vmm/nested/dump.h"
#include "vmm/nested/vmx_entry_fake.h"

namespace vmm {
namespace {

using nested::VmcsField;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using Status = MonitorAnswer::Status;

class MonitorNested : public testing::Test, public MonitorRig {
 protected:
  // What KVM says of vCPU 0: in VMX operation, with `fake` as its current VMCS.
  void in_vmx_operation() {
    std::vector<std::uint8_t> blob(128 + 4096);
    store(std::span(blob), 4, static_cast<std::uint32_t>(blob.size()));
    store(std::span(blob), 8, std::uint64_t{0x2000});
    store(std::span(blob), 16, std::uint64_t{0x50000});
    std::ranges::copy(fake.entry.vmcs.bytes(), blob.begin() + 128);
    machine.hypervisors = {{blob, fake.msrs}};
  }
  nested::FakeEntry fake;
};

TEST_F(MonitorNested, level_of_no_hypervisor) {
  EXPECT_EQ(say("level"), "no vCPU runs a hypervisor\n");
  EXPECT_EQ(ask("level 1").status, Status::Usage);
}

TEST_F(MonitorNested, level_and_regions_of_a_hypervisor) {
  in_vmx_operation();
  EXPECT_THAT(say("level"),
              HasSubstr("vCPU 0 is in L1: VMXON region 2000h, current VMCS 50000h (clear)"));
}

TEST_F(MonitorNested, the_current_vmcs_is_kvms) {
  in_vmx_operation();
  EXPECT_THAT(say("vmcs"), AllOf(HasSubstr("VMCS at 50000h (as KVM holds it)"),
                                 HasSubstr("Host TR selector"), HasSubstr("enable EPT")));
  EXPECT_EQ(say("vmcs show"), say("vmcs"));
}

TEST_F(MonitorNested, its_check_names_what_is_broken) {
  fake.set(VmcsField::HostTrSelector, 0);
  in_vmx_operation();
  EXPECT_THAT(say("vmcs check"),
              AllOf(HasSubstr("I098 HOST_TR selector must not be 0"),
                    HasSubstr("gives VMfail, VM-instruction error 8"), HasSubstr("violations; ")));
}

TEST_F(MonitorNested, a_vmcs_in_memory_is_shown_as_such) {
  in_vmx_operation();
  target.ram.put(0x60000, {fake.entry.vmcs.bytes().begin(), fake.entry.vmcs.bytes().end()});
  EXPECT_THAT(say("vmcs 0x60000"), HasSubstr("VMCS at 60000h (as memory has it)"));
  EXPECT_THAT(say("vmcs 0x61000"), HasSubstr("revision identifier is 0h"));
  EXPECT_THAT(say("vmcs 0xf0000000"), HasSubstr("F0000000h is not RAM"));
}

TEST_F(MonitorNested, what_there_is_not_is_said) {
  EXPECT_THAT(say("vmcs"), HasSubstr("the CPU model has neither VT-x nor SVM"));
  in_vmx_operation();
  store(std::span(machine.hypervisors[0].nested), 8, ~std::uint64_t{0});
  EXPECT_THAT(say("vmcs"), HasSubstr("vCPU 0 is not in VMX operation"));
  EXPECT_EQ(ask("vmcs show 1 2").status, Status::Usage);
  EXPECT_EQ(ask("vmcs diff").status, Status::Usage);
  EXPECT_EQ(ask("vmcs diff 1 2 3").status, Status::Usage);
  EXPECT_EQ(ask("vmcb").status, Status::Usage);
  EXPECT_EQ(ask("vmcb nowhere").status, Status::Usage);
  EXPECT_EQ(ask("vmcb diff 0x60000").status, Status::Usage);
}

TEST_F(MonitorNested, control_blocks_are_compared) {
  in_vmx_operation();
  nested::Vmcs other = fake.entry.vmcs;
  other.set(VmcsField::GuestRip, 0x4711);
  target.ram.put(0x60000, {fake.entry.vmcs.bytes().begin(), fake.entry.vmcs.bytes().end()});
  target.ram.put(0x61000, {other.bytes().begin(), other.bytes().end()});
  EXPECT_EQ(say("vmcs diff 0x60000"), "no field differs\n");
  EXPECT_THAT(say("vmcs diff 0x61000"),
              AllOf(StartsWith("Guest RIP (681Eh)\n  - "), HasSubstr("+ 0000000000004711h")));
  EXPECT_EQ(say("vmcs diff 0x60000 0x61000"), say("vmcs diff 0x61000"));
  EXPECT_THAT(say("vmcs diff 0xf0000000"), HasSubstr("F0000000h is not RAM"));
  target.ram.put32(0x63058, 7);
  EXPECT_THAT(say("vmcb diff 0x62000 0x63000"),
              AllOf(HasSubstr("Guest ASID"), HasSubstr("+ "), HasSubstr("00000007h")));
  EXPECT_THAT(say("vmcb diff 0x62000 0xf0000000"), HasSubstr("not RAM"));
}

TEST_F(MonitorNested, a_vmcb_is_shown_and_checked_by_its_address) {
  target.ram.put32(0x60058, 7);  // ASID
  EXPECT_THAT(say("vmcb 0x60000"), HasSubstr("Guest ASID"));
  EXPECT_THAT(say("vmcb check 0x60000"), AllOf(HasSubstr("A23"), HasSubstr("VMEXIT_INVALID")));
  EXPECT_THAT(say("vmcb check 0xf0000000"), HasSubstr("not RAM"));
}

TEST_F(MonitorNested, what_is_dumped_can_be_read_again) {
  in_vmx_operation();
  machine.about_machine.model = "skylake-server@5,+vmx";
  const std::string text = say("vmcs dump");
  EXPECT_THAT(text, HasSubstr("KVM's nested state of vCPU 0, CPU model skylake-server@5,+vmx"));
  EXPECT_EQ(nested::parse_dump(text).value(), machine.hypervisors[0].nested);
  target.ram.put(0x60000, {fake.entry.vmcs.bytes().begin(), fake.entry.vmcs.bytes().end()});
  EXPECT_EQ(nested::parse_dump(say("vmcs dump 0x60000")).value()->size(), 4096u);
  target.ram.put32(0x61058, 7);
  const auto vmcb = nested::parse_dump(say("vmcb dump 0x61000")).value();
  ASSERT_TRUE(vmcb);
  EXPECT_EQ((*vmcb)[0x58], 7);
  EXPECT_EQ(ask("vmcb dump").status, Status::Usage);
}

TEST_F(MonitorNested, only_level_searches_memory_for_refused_vmcbs) {
  in_vmx_operation();
  for (const char* line : {"vmcs", "vmcs check", "explain", "vmcb 0x60000"}) (void)say(line);
  EXPECT_EQ(machine.searches, 0u);
  (void)say("level");
  EXPECT_EQ(machine.searches, 1u);
}

TEST_F(MonitorNested, explain_says_what_a_vm_entry_will_find) {
  fake.set(VmcsField::HostTrSelector, 0);
  in_vmx_operation();
  EXPECT_THAT(say("explain"), testing::Not(HasSubstr("\n  entry")));
  target.ram.put(kCode, {0x0f, 0x01, 0xc2});
  EXPECT_THAT(say("explain"), AllOf(HasSubstr("entry   vCPU 0 is in L1 at VMLAUNCH 10000h"),
                                    HasSubstr("I098 HOST_TR selector must not be 0")));
}

TEST_F(MonitorNested, a_walk_as_json_has_the_steps_of_both_tables) {
  fake.set(VmcsField::EptPointer, 0x30000 | 3 << 3 | 6);
  fake.secondary(nested::kEnableEpt);
  in_vmx_operation();
  store(std::span(machine.hypervisors[0].nested), 0, std::uint16_t{1});
  target.positions[0] = {
      .level = 2, .memory = std::make_shared<FakeNestedMemory>(target.ram, 0x8000, kRamSize)};
  target.states[0].sregs.cr0 = spec::CR0_PE;
  target.ram.put64(0x30000, 0x31007);
  const auto walk = nlohmann::json::parse(say("walk --json 0x1234"));
  EXPECT_EQ(walk["level"], 2);
  const auto& nested = walk["nested"];
  EXPECT_EQ(nested["address"], "0x1234");
  ASSERT_EQ(nested["steps"].size(), 2u);
  EXPECT_EQ(nested["steps"][0]["entry"], "EPT PML4E");
  EXPECT_EQ(nested["steps"][0]["at"], "0x30000");
  EXPECT_EQ(nested["steps"][0]["value"], "0x31007");
  EXPECT_EQ(nested["gpa"], nullptr);
  EXPECT_NE(nested["failure"], nullptr);
}

TEST_F(MonitorNested, walk_goes_through_both_tables_of_a_vcpu_in_l2) {
  target.positions[0] = {
      .level = 2, .memory = std::make_shared<FakeNestedMemory>(target.ram, 0x8000, kRamSize)};
  target.states[0].sregs.cr3 = 0;  // the rig's own tables, where L2 finds them
  target.ram.put64(kTables, 0x1003);
  target.ram.put64(0x9000, 0x2003);
  target.ram.put64(0xa000, 0x83);
  EXPECT_THAT(say("walk 0x1234"),
              AllOf(HasSubstr("1234h on vCPU 0, in L2:"), HasSubstr("-> 1234h"),
                    HasSubstr("1234h of L2's memory by its hypervisor's nested tables:\n  leads to "
                              "9234h")));
  EXPECT_THAT(say("walk --json 0x1234"),
              AllOf(HasSubstr("\"level\": 2"), HasSubstr("\"l1_gpa\": \"0x9234\"")));
  EXPECT_THAT(say("walk --json 0x1234", 1),
              AllOf(HasSubstr("\"level\": 1"), testing::Not(HasSubstr("l1_gpa"))));
}

}  // namespace
}  // namespace vmm
