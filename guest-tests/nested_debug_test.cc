// --catch and the debugger at guest hypervisors: in the vmx lab, whose emulator delivers
// breakpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest-tests/gdb_rig.h"
#include "guest-tests/nested.h"
#include "vmm/base/text.h"
#include "vmm/nested/blob.h"

namespace vmm {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kVmx = {"--cpu-model", "skylake-server,+vmx", "--cpu-policy",
                                       "mask"};

std::vector<std::string> with(std::vector<std::string> options,
                              const std::vector<std::string>& more) {
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

TEST_F(Nested, vmx_catch_tells_each_entry_and_exit_of_each_processor) {
  const RunResult r = run_guest(
      "vmx-hello.elf", with(kVmx, {"--smp", "2", "--catch", "vmentry", "--catch", "vmexit:cpuid"}));
  EXPECT_EQ(r.code, 0) << r.text();
  for (const char* vcpu : {"vCPU 0 ", "vCPU 1 "}) {
    EXPECT_THAT(r.out, HasSubstr("hello from L2, CPUID answered by L1, RDMSR answered by L1"));
    EXPECT_THAT(r.err, ContainsRegex(std::string("vmm: catch: ") + vcpu +
                                     "VMLAUNCH at [0-9a-f]+h .vmx_enter[^)]*., VMCS [0-9A-F]+h, L2 "
                                     "RIP [0-9A-F]+h: breaks no rule"));
    EXPECT_THAT(r.err, HasSubstr(std::string("vmm: catch: ") + vcpu + "VMRESUME at "));
    EXPECT_THAT(r.err, ContainsRegex(std::string("vmm: catch: ") + vcpu +
                                     "exit to [0-9a-f]+h .vmx_exit. from L2 RIP [0-9A-F]+h: 10 "
                                     ".CPUID."));
  }
  EXPECT_THAT(r.err, Not(HasSubstr("port I/O"))) << "another reason";
}

TEST_F(Nested, vmx_catch_ends_the_run_before_an_entry_that_will_fail) {
  const TempFolder folder;
  const std::string outcome = folder.file("outcome.json");
  const RunResult r = run_guest("broken-host-tr.elf",
                                with(kVmx, {"--catch", "vmentry-fail", "--outcome-json", outcome}));
  EXPECT_EQ(r.code, 81) << r.text();
  EXPECT_THAT(r.err, HasSubstr("the guest hypervisor's VMLAUNCH on vCPU 0 would fail: HOST_TR "
                               "selector must not be 0"));
  EXPECT_THAT(r.err, HasSubstr("it would give VMfail, VM-instruction error 8"));
  EXPECT_THAT(r.err, HasSubstr("Host TR selector (0C0Ch) is 0000h"));
  const auto document = read_json_file(outcome);
  EXPECT_EQ(document["ending"]["kind"], "caught");
  EXPECT_EQ(document["cause"]["rule"], "vm-entry-i098");
  EXPECT_EQ(document["hypervisors"][0]["violations"][0]["rule"], "I098");
  const RunResult again =
      run_vmm({.arguments = {"vmcs", "check", outcome, "--cpu-model", "skylake-server,+vmx"}});
  EXPECT_EQ(again.code, 1) << again.text();
  EXPECT_THAT(again.out, HasSubstr("I098 HOST_TR selector must not be 0"));
}

// What is said in front of each entry is what the guest then finds, whatever this processor made of
// it.
TEST_F(Nested, vmx_catch_names_the_rule_of_each_broken_entry_before_it_is_made) {
  RunSetup setup{.arguments = with({"run", "-q", "--catch", "vmentry"}, kVmx)};
  setup.arguments.insert(setup.arguments.end(), {guest_path("vmx-broken.elf"), "--", "all"});
  const RunResult r = run_vmm(std::move(setup));
  ASSERT_EQ(r.code, 0) << r.text();
  std::vector<std::string> rules, caught;
  for (const std::string_view line : split(r.out, '\n'))
    if (line.starts_with("I") && line.find(": ") == 4) rules.emplace_back(line.substr(0, 4));
  for (const std::string_view line : split(r.err, '\n'))
    if (line.starts_with("vmm: catch: ")) caught.emplace_back(line);
  EXPECT_GE(rules.size(), 130u);
  ASSERT_EQ(caught.size(), rules.size());
  for (std::size_t i = 0; i < rules.size(); ++i)
    EXPECT_THAT(caught[i], HasSubstr(": " + rules[i] + " "));
}

// The guest goes on to its end, which is found as ever.
TEST_F(Nested, vmx_catch_vmentry_tells_of_a_failing_entry_and_goes_on) {
  const RunResult r = run_guest("broken-host-tr.elf", with(kVmx, {"--catch", "vmentry"}));
  EXPECT_EQ(r.code, 82) << r.text();
  EXPECT_THAT(r.err, ContainsRegex("vmm: catch: vCPU 0 VMLAUNCH at [^:]*: VMfail, VM-instruction "
                                   "error 8 [^:]*: I098 HOST_TR selector must not be 0"));
  EXPECT_THAT(r.err, HasSubstr("the guest hypervisor's VM entry failed on vCPU 0: HOST_TR"));
}

TEST_F(Nested, vmx_catch_lets_entries_pass_that_break_no_rule) {
  const RunResult r = run_guest("vmx-hello.elf", with(kVmx, {"--catch", "vmentry-fail"}));
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.err, Not(HasSubstr("catch:")));
}

TEST_F(Nested, vmx_catch_refuses_what_has_no_site) {
  const RunResult none = run_guest("idle.elf", with(kVmx, {"--catch", "vmentry"}));
  EXPECT_EQ(none.code, 64) << none.text();
  EXPECT_THAT(none.err, HasSubstr("the image has no VMLAUNCH, VMRESUME or VMRUN"));
  const RunResult without = run_guest(
      "vmx-hello.elf", {"--cpu-model", "qemu64", "--cpu-policy", "mask", "--catch", "vmentry"});
  EXPECT_EQ(without.code, 64) << without.text();
  EXPECT_THAT(without.err, HasSubstr("has neither VT-x nor SVM"));
}

TEST_F(Nested, svm_catch_is_refused_where_only_steps_work) {
  const RunResult r = run_guest(
      "svm-hello.elf", {"--cpu-model", "epyc,+svm", "--cpu-policy", "mask", "--catch", "vmentry"});
  EXPECT_EQ(r.code, 77) << r.text();
  EXPECT_THAT(r.err, HasSubstr("delivers no breakpoints, only single steps"));
}

// Past VMLAUNCH (0F 01 C2). One step does, but that this emulator may tell of a stop anew before
// the instruction is executed (docs/debugger.md).
std::string past_vmlaunch(const GdbRig& rig) {
  return "source " + rig.folder().write("past_vmlaunch",
                                        "while (*(unsigned int *)$rip & 0xffffff) == 0xc2010f\n"
                                        "stepi\nend\n");
}

TEST_F(Nested, vmx_debugger_steps_into_l2_and_reads_its_memory) {
  GdbRig rig;
  const auto vmm = rig.start("vmx-vmfunc.elf", with(kVmx, {"--catch", "vmentry"}));
  // Past VMFUNC (0F 01 D4), which switches to the view with the secret page.
  const std::string script = rig.folder().write(
      "past_vmfunc", "while (*(unsigned int *)($rip - 3) & 0xffffff) != 0xd4010f\nstepi\nend\n");
  // As the linker knows it: there is no debug information.
  const std::string shared = "_ZN12_GLOBAL__N_111shared_pageE";
  const std::string text = rig.gdb(
      "vmx-vmfunc.elf",
      {"continue", "x/i $rip", "monitor explain", past_vmlaunch(rig), "info threads", "p $rip",
       "monitor level", "x/gx (long)&" + shared + "", "source " + script,
       "x/gx (long)&" + shared + "", "monitor walk " + shared, "monitor explain", "hbreak vmx_exit",
       "continue", "info threads", "x/gx (long)&" + shared + "", "kill"});
  EXPECT_THAT(text, HasSubstr("vmlaunch"));
  EXPECT_THAT(text, HasSubstr("stopped at what --catch asks for, at"));
  EXPECT_THAT(text, HasSubstr("it breaks no rule of VM entry"));
  EXPECT_THAT(text, HasSubstr("64-bit, CPL 0, in L2"));
  EXPECT_THAT(text, ContainsRegex("l2_main"));
  EXPECT_THAT(text, HasSubstr("vCPU 0 is in L2 (the registers are L2's)"));
  const auto first = text.find("0x0000000000001111");
  const auto secret = text.find("0x00000000005ec7e7");
  EXPECT_NE(first, std::string::npos) << text;
  ASSERT_NE(secret, std::string::npos) << text;
  EXPECT_LT(first, secret);
  EXPECT_THAT(text, HasSubstr("of L2's memory by its hypervisor's nested tables:"));
  EXPECT_NE(text.find("0x0000000000001111", secret), std::string::npos) << "L1's own again\n"
                                                                        << text;
  vmm->finish();
}

TEST_F(Nested, vmx_breakpoints_stop_in_the_level_that_their_condition_names) {
  GdbRig rig;
  const auto vmm = rig.start("vmx-hello.elf", kVmx);
  const std::string text =
      rig.gdb("vmx-hello.elf",
              {"break vmx_enter if $vmm_level == 2", "break vmx_exit if $vmm_level == 2",
               "break *(long)&_ZN12_GLOBAL__N_17l2_mainEv if $vmm_level == 2 && $vmm_eptp != 0",
               "p $vmm_vmcs", "continue", "p $vmm_level", "p $vmm_vmcs > 0", "info breakpoints",
               "delete", "break vmx_exit if $vmm_level == 1 && $vmm_eptp == 0", "continue",
               "p $vmm_level + 100", "set var $vmm_level = 2", "delete", "continue"});
  EXPECT_THAT(text, HasSubstr("$1 = -1\n")) << text;
  EXPECT_THAT(text, HasSubstr("Breakpoint 3, ")) << text;
  EXPECT_THAT(text, HasSubstr("$2 = 2\n")) << text;
  EXPECT_THAT(text, HasSubstr("$3 = 1\n")) << text;
  EXPECT_THAT(text, HasSubstr("stop only if $vmm_level == 2 (target evals)")) << text;
  EXPECT_THAT(text, HasSubstr("Breakpoint 4, ")) << text;
  EXPECT_THAT(text, HasSubstr("$4 = 101\n")) << text;
  EXPECT_THAT(text, HasSubstr("exited normally")) << text;
  const RunResult r = vmm->finish();
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("hello from L2, CPUID answered by L1, RDMSR answered by L1"));
}

TEST_F(Nested, vmx_catch_gives_the_debugger_the_guest_before_an_entry_that_will_fail) {
  GdbRig rig;
  const auto vmm = rig.start("broken-host-tr.elf", with(kVmx, {"--catch", "vmentry-fail"}));
  const std::string text =
      rig.gdb("broken-host-tr.elf", {"continue", "x/i $rip", "monitor explain",
                                     "monitor vmcs check", past_vmlaunch(rig), "x/i $rip", "kill"});
  EXPECT_THAT(text, HasSubstr("SIGTRAP"));
  EXPECT_THAT(text, AllOf(HasSubstr("I098 HOST_TR selector must not be 0"),
                          HasSubstr("it would give VMfail, VM-instruction error 8")));
  // Behind the instruction, for it failed.
  EXPECT_THAT(text, ContainsRegex("=> 0x[0-9a-f]+ <vmx_enter[^>]*>:\tjmp"));
  vmm->finish();
}

TEST_F(Nested, vmx_vmcs_comes_out_of_the_guest_as_a_file) {
  GdbRig rig;
  const auto vmm = rig.start("broken-host-tr.elf", with(kVmx, {"--catch", "vmentry-fail"}));
  const std::string file = rig.folder().file("vmcs.txt");
  const std::string text =
      rig.gdb("broken-host-tr.elf", {"continue", "pipe monitor vmcs dump | cat > " + file, "kill"});
  vmm->finish();
  const std::string dump = read_text_file(file);
  const auto blob =
      nested::read_blob({reinterpret_cast<const std::uint8_t*>(dump.data()), dump.size()});
  ASSERT_TRUE(blob) << blob.error().text() << text;
  ASSERT_TRUE(blob->vmcs);
  EXPECT_EQ(blob->vmcs->get(nested::VmcsField::HostTrSelector), 0u);
  EXPECT_NE(blob->vmcs->get(nested::VmcsField::HostRip), 0u);
  const RunResult check =
      run_vmm({.arguments = {"vmcs", "check", file, "--cpu-model", "skylake-server,+vmx"}});
  EXPECT_EQ(check.code, 1) << check.text();
  EXPECT_THAT(check.out, HasSubstr("I098 HOST_TR selector must not be 0"));
}

}  // namespace
}  // namespace vmm
