// --catch over a fake machine whose hypervisor is known: what is told where.
#include "vmm/machine/catcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/machine/catch_sites.h"
#include "vmm/machine/monitor_rig.h"
#include "vmm/nested/svm_fake.h"
#include "vmm/nested/vmx_entry_fake.h"

namespace vmm {
namespace {

using nested::VmcsField;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using What = CatchSpec::What;

constexpr Gva kSite = 0x12000, kHostRip = 0x13000, kElsewhere = 0x14000;

class CatcherTest : public testing::Test, public MonitorRig {
 protected:
  CatcherTest() {
    target.names.add("enter", kSite - 0x10, 0x100);
    target.ram.put(kSite, {0x0f, 0x01, 0xc2});
    target.states[0].regs.rflags = target.states[1].regs.rflags = 2;
    fake.set(VmcsField::HostRip, kHostRip);
    fake.set(VmcsField::GuestRip, 0x7c00);
  }
  // vCPU `vcpu` is in VMX operation, with `fake` as its current VMCS.
  void in_vmx_operation(unsigned vcpu = 0, bool in_l2 = false) {
    std::vector<std::uint8_t> blob(128 + 4096);
    store(std::span(blob), 0, std::uint16_t{in_l2});
    store(std::span(blob), 4, static_cast<std::uint32_t>(blob.size()));
    store(std::span(blob), 8, std::uint64_t{0x2000});
    store(std::span(blob), 16, std::uint64_t{0x50000});
    std::ranges::copy(fake.entry.vmcs.bytes(), blob.begin() + 128);
    machine.hypervisors.resize(2);
    machine.hypervisors[vcpu] = {blob, fake.msrs};
    target.table = fake.cpuid;
    for (CpuState& cpu : target.states) {
      cpu.sregs.cr4 |= 0x2000;
      cpu.sregs.cr0 |= 0x20;
    }
  }
  Result<void> start(const std::vector<std::string>& words, std::vector<Gva> sites = {kSite},
                     bool svm = false) {
    Catcher::Setup setup{.sites = std::move(sites), .svm = svm};
    for (const std::string& word : words) setup.specs.push_back(parse_catch(word).value());
    setup.caught = [this](const CaughtEvent& event) {
      events.push_back(event);
      return stops;
    };
    catcher.emplace(target, machine, debugger, std::move(setup));
    VMM_TRY(catcher->start());
    return debugger.go({{.how = GoOn::How::Run}, {.how = GoOn::How::Run}});
  }
  // A vCPU comes to `pc`; whether the user is told.
  bool arrive(unsigned vcpu, Gva pc) {
    target.states[vcpu].regs.rip = pc;
    target.positions[vcpu].enters =
        is_vm_entry(std::span<const std::uint8_t>(target.ram.bytes()).subspan(pc));
    unsigned slot = 0;
    for (unsigned i = 0; i < DebugControl::kSlots; ++i)
      if (target.controls[vcpu].slots[i] && target.controls[vcpu].slots[i]->address == pc)
        slot = 1u << i;
    EXPECT_TRUE(slot != 0 || target.ram.bytes()[pc] == 0xcc) << "nothing stops there";
    const DebugStop hit{.exception = slot != 0 ? 1u : 3u, .pc = pc, .dr6 = slot, .dr7 = 0};
    return debugger.stopped(vcpu, hit).value().has_value();
  }
  std::string error_of(const std::vector<std::string>& words, std::vector<Gva> sites = {kSite},
                       bool svm = false) {
    const auto started = start(words, std::move(sites), svm);
    return started ? "" : started.error().text();
  }

  nested::FakeEntry fake;
  std::optional<Catcher> catcher;
  std::vector<CaughtEvent> events;
  bool stops = false;
};

TEST_F(CatcherTest, each_entry_is_a_line_and_the_guest_goes_on) {
  in_vmx_operation();
  ASSERT_TRUE(start({"vmentry"}));
  EXPECT_FALSE(arrive(0, kSite));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].what, What::VmEntry);
  EXPECT_FALSE(events[0].fails) << events[0].text;
  EXPECT_EQ(events[0].text,
            "vCPU 0 VMLAUNCH at 12000h (enter+10h), VMCS 50000h, L2 RIP 7C00h: breaks no rule");
  EXPECT_TRUE(debugger.running());
  EXPECT_TRUE(target.controls[0].resume);
  EXPECT_FALSE(arrive(0, kSite)) << "and once more";
  EXPECT_EQ(events.size(), 2u);
}

TEST_F(CatcherTest, an_entry_that_will_fail_stops_with_its_rule) {
  fake.set(VmcsField::HostTrSelector, 0);
  in_vmx_operation();
  stops = true;
  ASSERT_TRUE(start({"vmentry-fail"}));
  EXPECT_TRUE(arrive(0, kSite));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].what, What::VmEntryFail);
  EXPECT_EQ(events[0].place, "VMLAUNCH at 12000h (enter+10h)");
  EXPECT_THAT(events[0].text, AllOf(HasSubstr("VM-instruction error 8"),
                                    HasSubstr("I098 HOST_TR selector must not be 0")));
  EXPECT_FALSE(debugger.running());
}

TEST_F(CatcherTest, an_entry_that_breaks_no_rule_is_no_failure) {
  in_vmx_operation();
  ASSERT_TRUE(start({"vmentry-fail"}));
  EXPECT_FALSE(arrive(0, kSite));
  EXPECT_THAT(events, IsEmpty());
  EXPECT_TRUE(debugger.running());
}

// What only somebody in front of the instruction can know.
TEST_F(CatcherTest, the_rules_about_the_instruction_itself_are_checked) {
  target.ram.put(kSite, {0x0f, 0x01, 0xc3});
  in_vmx_operation();
  ASSERT_TRUE(start({"vmentry-fail"}));
  arrive(0, kSite);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(events[0].text, AllOf(HasSubstr("VMRESUME"), HasSubstr("I008")));
}

TEST_F(CatcherTest, without_a_current_vmcs_nothing_is_said_of_its_fields) {
  in_vmx_operation();
  machine.hypervisors[0].nested.resize(128);
  store(std::span(machine.hypervisors[0].nested), 4, std::uint32_t{128});
  store(std::span(machine.hypervisors[0].nested), 16, ~std::uint64_t{0});
  ASSERT_TRUE(start({"vmentry-fail"}));
  arrive(0, kSite);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(events[0].text,
              AllOf(HasSubstr("VMCS none"), HasSubstr("I004 current-VMCS pointer")));
  EXPECT_THAT(events[0].text, testing::Not(HasSubstr("more)")));
}

TEST_F(CatcherTest, l2_and_other_code_at_that_address_are_passed_without_a_word) {
  in_vmx_operation(0, true);
  in_vmx_operation(1);
  ASSERT_TRUE(start({"vmentry"}));
  EXPECT_FALSE(arrive(0, kSite));
  target.ram.put(kSite, {0x90, 0x90, 0x90});
  EXPECT_FALSE(arrive(1, kSite));
  EXPECT_TRUE(target.controls[1].step) << "no VM entry is passed by a step";
  EXPECT_THAT(events, IsEmpty());
}

TEST_F(CatcherTest, an_exit_is_told_where_the_hypervisor_goes_on) {
  in_vmx_operation();
  ASSERT_TRUE(start({"vmexit"}));
  EXPECT_FALSE(arrive(0, kSite));
  EXPECT_THAT(events, IsEmpty());
  fake.set(VmcsField::VmExitReason, 10);
  fake.set(VmcsField::GuestRip, 0x7c05);
  in_vmx_operation();
  EXPECT_FALSE(arrive(0, kHostRip));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(events[0].text,
              AllOf(HasSubstr("vCPU 0 exit to 13000h from L2 RIP 7C05h: "), HasSubstr("(CPUID)")));
}

TEST_F(CatcherTest, whoever_jumps_there_has_not_exited) {
  in_vmx_operation();
  ASSERT_TRUE(start({"vmexit"}));
  EXPECT_FALSE(arrive(0, kSite));
  target.states[0].regs.rflags = 0x42;  // VMfailValid
  EXPECT_FALSE(arrive(0, kHostRip));
  EXPECT_THAT(events, IsEmpty());
}

class CatcherByReason : public CatcherTest,
                        public testing::WithParamInterface<std::pair<const char*, bool>> {};

TEST_P(CatcherByReason, exits_are_chosen) {
  const auto& [word, wanted] = GetParam();
  fake.set(VmcsField::VmExitReason, 10);
  in_vmx_operation();
  ASSERT_TRUE(start({word}));
  EXPECT_FALSE(arrive(0, kSite));
  EXPECT_FALSE(arrive(0, kHostRip));
  EXPECT_EQ(events.size(), wanted ? 1u : 0u);
}

INSTANTIATE_TEST_SUITE_P(Each, CatcherByReason,
                         testing::Values(std::pair("vmexit", true), std::pair("vmexit:cpuid", true),
                                         std::pair("vmexit:10", true),
                                         std::pair("vmexit:0ah", true),
                                         std::pair("vmexit:hlt", false)));

TEST_F(CatcherTest, vmrun_is_judged_by_the_vmcb_in_rax) {
  nested::FakeSvm svm;
  svm.put(nested::VmcbId::Asid, 0);
  target.ram.put(0x60000, {svm.bytes.begin(), svm.bytes.end()});
  target.ram.put(kSite, {0x0f, 0x01, 0xd8});
  std::vector<std::uint8_t> blob(128);
  store(std::span(blob), 2, std::uint16_t{1});
  store(std::span(blob), 4, std::uint32_t{128});
  machine.hypervisors = {{blob, {{0xc0010117, 0x4000}, {0xc0010114, 0}}}};
  target.table = svm.cpuid;
  target.states[0].sregs.efer |= spec::EFER_SVME;
  target.states[0].regs.rax = 0x60000;
  ASSERT_TRUE(start({"vmentry-fail", "vmexit:cpuid"}, {kSite}, true));
  EXPECT_FALSE(arrive(0, kSite));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(events[0].text,
              AllOf(HasSubstr("VMRUN at 12000h"), HasSubstr("VMCB 60000h"), HasSubstr("A08")));
  svm.put(nested::VmcbId::ExitCode, 0x72);
  target.ram.put(0x60000, {svm.bytes.begin(), svm.bytes.end()});
  EXPECT_FALSE(arrive(0, kSite + 3));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_THAT(events[1].text, HasSubstr("VMEXIT_CPUID (72h)"));
}

TEST_F(CatcherTest, what_cannot_be_is_refused_with_the_reason) {
  in_vmx_operation();
  EXPECT_THAT(error_of({"vmentry"}, {}), HasSubstr("no VMLAUNCH, VMRESUME or VMRUN"));
  EXPECT_THAT(error_of({"vmentry@nowhere"}, {}), HasSubstr("'nowhere' is no address"));
  EXPECT_THAT(error_of({"vmentry"}, {1, 2, 3, 4, 5}), HasSubstr("5 VM entries and four debug"));
  EXPECT_THAT(error_of({"vmexit:cpuit"}), HasSubstr("VT-x has no such exit"));
  target.support.hardware = false;
  EXPECT_THAT(error_of({"vmentry"}), HasSubstr("delivers no breakpoints, only single steps"));
}

TEST_F(CatcherTest, a_place_may_be_named_by_hand) {
  in_vmx_operation();
  target.names.add("by_hand", kElsewhere, 3);
  ASSERT_TRUE(start({"vmentry@by_hand", "vmentry@0x12000"}, {}));
  std::vector<Gva> places;
  for (const Breakpoint& b : debugger.breakpoints()) places.push_back(b.address);
  EXPECT_THAT(places, ElementsAre(kSite, kElsewhere));
}

TEST(CatchSpec, words_are_understood) {
  EXPECT_EQ(parse_catch("VMENTRY").value(), CatchSpec{});
  EXPECT_EQ(parse_catch("vmentry-fail@enter").value(), (CatchSpec{What::VmEntryFail, "", "enter"}));
  EXPECT_EQ(parse_catch("vmexit:EPT_violation@1000h").value(),
            (CatchSpec{What::VmExit, "ept-violation", "1000h"}));
  for (const char* text : {"vmexit", "vmentry-fail@enter", "vmexit:ept-violation@1000h"})
    EXPECT_EQ(catch_text(parse_catch(text).value()), text);
  for (const char* text : {"", "vmentri", "vmentry:cpuid", "vmexit:", "vmexit@", "@1000h"})
    EXPECT_FALSE(parse_catch(text)) << text;
  EXPECT_THAT(parse_catch("vmentri").error().hint_text(), HasSubstr("did you mean vmentry?"));
}

// --- where they are

LoadedImage image_of(std::vector<std::uint8_t> code, bool executable = true) {
  LoadedImage image;
  image.bytes = std::move(code);
  image.segments = {{.gpa = 0x100000,
                     .file_size = image.bytes.size(),
                     .memory_size = image.bytes.size(),
                     .vaddr = 0xffffffff80100000,
                     .executable = executable}};
  return image;
}

TEST(CatchSites, instructions_are_found_where_they_are_linked) {
  std::vector<std::uint8_t> code(100, 0x90);
  for (const auto& [at, last] : {std::pair(20, 0xc2), {40, 0xc3}, {60, 0xd8}, {80, 0xc4}}) {
    code[static_cast<std::size_t>(at)] = 0x0f;
    code[static_cast<std::size_t>(at) + 1] = 0x01;
    code[static_cast<std::size_t>(at) + 2] = static_cast<std::uint8_t>(last);
  }
  EXPECT_THAT(find_vm_entries(image_of(code)),
              ElementsAre(0xffffffff80100014, 0xffffffff80100028, 0xffffffff8010003c));
  EXPECT_THAT(find_vm_entries(image_of(code, false)), IsEmpty());
}

TEST(CatchSites, bytes_inside_another_instruction_are_none) {
  std::vector<std::uint8_t> code(100, 0x90);
  // mov rax, 9090909090c2010fh
  const std::vector<std::uint8_t> mov = {0x48, 0xb8, 0x0f, 0x01, 0xc2,
                                         0x90, 0x90, 0x90, 0x90, 0x90};
  std::ranges::copy(mov, code.begin() + 70);
  EXPECT_THAT(find_vm_entries(image_of(code)), IsEmpty());
}

TEST(CatchSites, the_ends_of_an_image_are_no_trouble) {
  EXPECT_THAT(find_vm_entries(image_of({0x0f, 0x01, 0xc2})), ElementsAre(0xffffffff80100000));
  EXPECT_THAT(find_vm_entries(image_of({0x90, 0x0f, 0x01})), IsEmpty());
  LoadedImage cut = image_of({0x0f, 0x01, 0xc2});
  cut.segments[0].file_size = 100;
  EXPECT_THAT(find_vm_entries(cut), IsEmpty());
}

}  // namespace
}  // namespace vmm
