// Machines that start again: --on-reset reboot, and the monitor's reset by gdb and by vmm ctl.
#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>
#include <string_view>
#include <tuple>

#include "guest-tests/gdb_rig.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// The chip and the number of vCPUs.
class Reboots : public KvmTest,
                public testing::WithParamInterface<std::tuple<const char*, const char*>> {};

// reboots.elf counts on its disk and checks at each boot that all else is as after power-on.
TEST_P(Reboots, start_from_the_images_with_everything_but_the_disk_as_after_power_on) {
  const auto [chip, vcpus] = GetParam();
  const TempFolder folder;
  const std::string disk = folder.write("disk.img", std::string(64 * 512, '\0'));
  const std::string outcome = folder.file("outcome.json");
  const RunResult r = run_guest(
      "reboots.elf", {"--on-reset", "reboot", "--irqchip", chip, "--smp", vcpus, "--cpu-policy",
                      "mask", "--disk", "raw:" + disk, "--outcome-json", outcome, "--trace",
                      folder.file("trace"), "--trace-filter", "kind=reset"});
  ASSERT_EQ(r.code, 0) << r.text();
  for (int boot = 0; boot <= 4; ++boot)
    EXPECT_THAT(r.out, HasSubstr(fmt::format("boot {}\n", boot))) << "one console for all boots";
  EXPECT_THAT(r.err, HasSubstr("it started again 4 times, the last time by port CF9h"));
  EXPECT_EQ(read_text_file(disk)[0], 5);
  const json document = read_json_file(outcome);
  EXPECT_EQ(document["ending"]["kind"], "guest-exit");
  EXPECT_EQ(document["resets"], (json{{"count", 4}, {"last", "port CF9h"}}));
  // One time line: each life follows on the one before.
  std::vector<long> times;
  std::istringstream trace(read_text_file(folder.file("trace")));
  for (std::string line; std::getline(trace, line);) {
    const json event = json::parse(line);
    if (event["kind"] == "reset") times.push_back(event["ns"].get<long>());
  }
  ASSERT_EQ(times.size(), 4u);
  EXPECT_TRUE(std::ranges::is_sorted(times));
  EXPECT_GT(times[0], 0);
}

INSTANTIATE_TEST_SUITE_P(Chips, Reboots,
                         testing::Combine(testing::Values("user", "split", "kernel"),
                                          testing::Values("1", "2")),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + std::get<1>(test.param);
                         });

class Reset : public Gdb {};

// How often gdb said that its first breakpoint stopped the guest.
std::size_t breakpoint_hits(const std::string& out) {
  constexpr std::string_view kHit = "Breakpoint 1, ";
  std::size_t hits = 0;
  for (std::size_t at = out.find(kHit); at != std::string::npos; at = out.find(kHit, at + 1))
    ++hits;
  return hits;
}

TEST_F(Reset, is_the_end_unless_it_was_asked_to_be_none) {
  EXPECT_EQ(run_guest("reset.elf", {"--on-reset", "exit"}).code, 83);
  const RunResult unknown = run_guest("reset.elf", {"--on-reset", "rebot"});
  EXPECT_EQ(unknown.code, 64);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean reboot?"));
}

TEST_F(Reset, of_a_guest_that_does_nothing_else_is_heard_of_and_ends_with_the_time_limit) {
  const std::string outcome = folder().file("outcome.json");
  const RunResult r =
      run_guest("reset.elf", {"--on-reset", "reboot", "--timeout", "3", "--outcome-json", outcome});
  EXPECT_EQ(r.code, 124) << r.text();
  EXPECT_THAT(r.err, AllOf(HasSubstr("vmm: reset 1 (i8042 command FEh at port 64h)"),
                           HasSubstr("vmm: reset 2 "), Not(HasSubstr("vmm: reset 3 "))));
  EXPECT_GE(read_json_file(outcome)["resets"]["count"], 2);
}

TEST_F(Reset, that_the_host_does_not_allow_is_the_end_with_its_reason) {
  const RunResult r = run_vmm(
      {.arguments = {"run", "--on-reset", "reboot", "--irqchip", "kernel", guest_path("reset.elf")},
       .environment = {{"VMM_FAULT", "KVM_CREATE_VM:ENOMEM:2"}},
       .here = true});
  EXPECT_EQ(r.code, 70) << r.text();
  EXPECT_THAT(r.err, AllOf(HasSubstr("start the machine again"), HasSubstr("KVM_CREATE_VM"),
                           HasSubstr("ENOMEM")));
}

TEST_F(Reset, is_no_way_out_of_a_triple_fault) {
  const std::string outcome = folder().file("outcome.json");
  EXPECT_EQ(run_guest("triple-fault.elf", {"--on-reset", "reboot", "--outcome-json", outcome}).code,
            80);
  EXPECT_EQ(read_json_file(outcome)["resets"], (json{{"count", 0}, {"last", nullptr}}));
}

TEST_F(Reset, by_the_monitor_brings_gdb_back_to_the_first_instruction) {
  const auto vmm = start("serial-echo.elf", {"--serial", "null"});
  const std::string out =
      gdb("serial-echo.elf",
          {"printf \"first %lx\\n\", $pc", "break guest_main", "continue", "monitor reset",
           "maintenance flush register-cache", "printf \"again %lx\\n\", $pc", "stepi",
           "monitor explain", "continue", "monitor reset", "continue", "kill"});
  const std::size_t first = out.find("first "), again = out.find("again ");
  ASSERT_NE(first, std::string::npos) << out;
  ASSERT_NE(again, std::string::npos) << out;
  EXPECT_EQ(out.substr(first + 6, out.find('\n', first) - first - 6),
            out.substr(again + 6, out.find('\n', again) - again - 6))
      << out;
  EXPECT_THAT(out, HasSubstr("vCPU 0 stopped after a step")) << "of the new life";
  // Before, after the first reset, and after the second, of which gdb was not told.
  EXPECT_EQ(breakpoint_hits(out), 3u) << out;
  vmm->finish();
}

TEST_F(Reset, by_the_guest_keeps_the_breakpoints_of_gdb) {
  const auto vmm = start("reset.elf", {"--on-reset", "reboot", "--serial", "null", "--smp", "2"});
  const std::string out =
      gdb("reset.elf", {"break guest_main", "continue", "continue", "continue", "kill"});
  EXPECT_EQ(breakpoint_hits(out), 3u) << out;
  vmm->finish();
}

// The protocol: a step over the write that resets ends where the new life begins.
TEST_F(Reset, by_the_guest_ends_a_step_at_the_first_instruction) {
  const auto vmm = start("reset.elf", {"--on-reset", "reboot", "--serial", "null"});
  RspClient client = connect();
  client.ask("qSupported:swbreak+;hwbreak+");
  const std::string first = client.ask("p10");
  // A range that has no end: only the reset can end it.
  client.send("vCont;r0,ffffffffffffffff:1");
  EXPECT_THAT(client.next(60), testing::StartsWith("T05thread:1;"));
  EXPECT_EQ(client.ask("p10"), first);
  client.send("k");
  vmm->finish();
}

class ResetByCtl : public KvmTest {};

TEST_F(ResetByCtl, starts_a_running_guest_again_and_lets_it_run) {
  const TempFolder folder;
  const std::string socket = folder.file("ctl.sock"), outcome = folder.file("outcome.json");
  VmmProcess vmm({.arguments = {"run", "--ctl", "unix:" + socket, "--outcome-json", outcome,
                                guest_path("serial-echo.elf")},
                  .in = ChildStdin::Open});
  ASSERT_TRUE(vmm.wait_for_output("type a line: "));
  EXPECT_EQ(run_vmm({.arguments = {"ctl", socket, "reset", "now"}}).code, 64);
  const RunResult reset = run_vmm({.arguments = {"ctl", socket, "reset"}});
  EXPECT_EQ(reset.code, 0) << reset.text();
  EXPECT_EQ(reset.out, "the machine has started again, as after power-on\n");
  // Of a stopped one the start waits.
  run_vmm({.arguments = {"ctl", socket, "pause"}});
  EXPECT_EQ(run_vmm({.arguments = {"ctl", socket, "reset"}}).code, 0);
  EXPECT_THAT(run_vmm({.arguments = {"ctl", socket, "exits"}}).out, HasSubstr("none that is"));
  run_vmm({.arguments = {"ctl", socket, "resume"}});
  vmm.send("hello\n");
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("hello"));
  EXPECT_EQ(read_json_file(outcome)["resets"],
            (json{{"count", 2}, {"last", "the monitor's command reset"}}));
}

}  // namespace
}  // namespace vmm
