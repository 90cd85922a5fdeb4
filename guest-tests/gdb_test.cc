// A debugger at real guests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "guest-tests/gdb_rig.h"

namespace vmm {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(Gdb, the_guest_waits_at_its_first_instruction_and_goes_on_to_its_end) {
  const auto vmm = start("hello.elf");
  const std::string text =
      gdb("hello.elf", {"info registers rip cr0 efer", "x/i $rip", "continue"});
  EXPECT_THAT(text, ContainsRegex("rip +0x100000"));
  EXPECT_THAT(text, HasSubstr("[ PE ET NE WP PG ]"));
  EXPECT_THAT(text, HasSubstr("[ LME LMA ]"));
  EXPECT_THAT(text, HasSubstr("<_start>"));
  EXPECT_THAT(text, HasSubstr("exited normally"));
  const RunResult r = vmm->finish();
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("Hello from"));
}

TEST_F(Gdb, breakpoints_steps_and_the_way_back) {
  const auto vmm = start("hello.elf");
  const char* const place = only_steps_work() ? "_start" : "kernel_main";
  const std::string text = gdb(
      "hello.elf", {"break kernel_main", "continue", "bt", only_steps_work() ? "delete" : "p 0",
                    "stepi", "stepi", fmt::format("p (char *)$rip - (char *){}", place),
                    "monitor walk kernel_main", "monitor phys $rip 2", "monitor wakl", "detach"});
  EXPECT_THAT(text, HasSubstr("Breakpoint 1"));
  EXPECT_THAT(text, ContainsRegex(fmt::format("#0 .*{}", place)));
  EXPECT_THAT(text, ContainsRegex("\\$[12] = [1-9]"));
  EXPECT_THAT(text, HasSubstr("PML4E[0] at"));
  EXPECT_THAT(text, ContainsRegex("\n00000010[0-9a-f]{4}:  "));
  EXPECT_THAT(text, HasSubstr("did you mean walk?"));
  // Detached, it goes on without its breakpoint.
  const RunResult r = vmm->finish();
  EXPECT_EQ(r.code, 0) << r.text() << text;
  if (!only_steps_work()) return;
  EXPECT_THAT(text, HasSubstr("Cannot insert breakpoint 1"));
  EXPECT_THAT(r.err, HasSubstr(kOnlySteps));
}

TEST_F(Gdb, processors_are_threads_and_the_one_that_stops_is_told) {
  if (only_steps_work()) return expect_refusal("smp.elf", "Z1,100000,1", {"--smp", "2"});
  const auto vmm = start("smp.elf", {"--smp", "2"});
  const std::string text = gdb("smp.elf", {"info threads", "hbreak ap_main", "continue", "thread",
                                           "bt 2", "info threads", "delete", "continue"});
  EXPECT_THAT(text, HasSubstr("\"vCPU 1\" (waits for a SIPI)"));
  EXPECT_THAT(text, ContainsRegex("Current thread is 2"));
  EXPECT_THAT(text, ContainsRegex("#[01] .*ap_main"));
  EXPECT_THAT(text, HasSubstr("exited normally"));
  EXPECT_EQ(vmm->finish().code, 0) << text;
}

TEST_F(Gdb, registers_and_memory_are_written) {
  const auto vmm = start("exit-0.elf");
  const std::string text =
      gdb("exit-0.elf",
          {"p $rbx = 0x1122334455667788", "p $cr2 = 0x1000", "p $xmm1.uint128 = 7",
           "set {int}0x200000 = 0x5a5a", "x/x 0x200000", "flushregs", "p/x $rbx", "p $cr2",
           "p $xmm1.uint128", "p $lstar = 0x1234", "p $lstar", "p $cr8 = 99", "kill"});
  EXPECT_THAT(text, HasSubstr("0x200000:\t0x00005a5a"));
  EXPECT_THAT(text, ContainsRegex("\\$[0-9]+ = 0x1122334455667788"));
  EXPECT_THAT(text, ContainsRegex("\\$[0-9]+ = 4096"));
  EXPECT_THAT(text, ContainsRegex("\\$[0-9]+ = 7"));
  EXPECT_THAT(text, ContainsRegex("\\$[0-9]+ = .*0x1234"));
  EXPECT_EQ(vmm->finish().code, 0) << text;
}

TEST_F(Gdb, a_running_guest_is_interrupted_and_a_client_that_vanishes_leaves_it_running) {
  const auto vmm = start("spin.elf");
  RspClient client = connect();
  EXPECT_THAT(client.ask("?"), StartsWith("T05"));
  client.send("vCont;c");
  client.send_bytes("\x03");
  EXPECT_THAT(client.next(), StartsWith("T02"));
  EXPECT_EQ(client.ask("Z0,100000,1"), only_steps_work() ? fmt::format("E.{}", kOnlySteps) : "OK");
  client.send("vCont;c");
  client.send_bytes("$qSuppo");
  client.close();
  // Another one finds it running, and stops it.
  RspClient second;
  ASSERT_TRUE(vmm->wait_until([&] {
    return second.connect(socket()) && second.ask("qC") == "QC1";
  })) << vmm->finish().text();
  EXPECT_THAT(second.ask("?"), StartsWith("T05"));
  second.send("k");
  EXPECT_EQ(vmm->finish().code, 0);
}

TEST_F(Gdb, a_stopped_guest_waits_for_the_next_client) {
  const auto vmm = start("exit-1.elf");
  {
    RspClient client = connect();
    EXPECT_EQ(client.ask("vCont;s:1").substr(0, 3), "T05");
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  RspClient second;
  ASSERT_TRUE(
      vmm->wait_until([&] { return second.connect(socket()) && second.ask("qC") == "QC1"; }));
  EXPECT_EQ(second.ask("vCont;c"), "W01");
  EXPECT_EQ(vmm->finish().code, 1);
}

TEST_F(Gdb, with_nowait_the_guest_runs_at_once) {
  const auto vmm = start("exit-1.elf", {"--gdb-nowait"});
  EXPECT_EQ(vmm->finish().code, 1);
}

TEST_F(Gdb, a_timeout_does_not_count_what_the_user_thinks) {
  const auto vmm = start("exit-1.elf", {"--timeout", "1"});
  RspClient client = connect();
  EXPECT_EQ(client.ask("qC"), "QC1");
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  EXPECT_EQ(client.ask("vCont;c"), "W01");
  EXPECT_EQ(vmm->finish().code, 1);
}

TEST_F(Gdb, ten_thousand_steps_are_made) {
  const auto vmm = start("spin.elf");
  RspClient client = connect();
  // The loop of spin.elf: a step is always somewhere inside.
  EXPECT_EQ(client.ask("QStartNoAckMode"), "OK");
  for (int i = 0; i < (test_lab().empty() ? 10000 : 1000); ++i)
    ASSERT_THAT(client.ask("vCont;s:1"), StartsWith("T05")) << i;
  client.send("k");
  EXPECT_EQ(vmm->finish().code, 0);
}

// The second instruction is PUSHF; the guest looks at what it stored.
TEST_F(Gdb, a_step_leaves_no_trap_flag_in_what_the_guest_stores) {
  const auto vmm = start("entry-elf64.elf");
  RspClient client = connect();
  EXPECT_EQ(client.ask("QStartNoAckMode"), "OK");
  for (int i = 0; i < 4; ++i) ASSERT_THAT(client.ask("vCont;s:1"), StartsWith("T05")) << i;
  client.send("vCont;c");
  EXPECT_THAT(client.next(), StartsWith("W"));
  const RunResult run = vmm->finish();
  EXPECT_EQ(run.code, 0) << run.out;
}

// Asked by vmm, as gdb says.
TEST_F(Gdb, a_condition_is_asked_ten_thousand_times_until_it_is_true) {
  if (only_steps_work()) return expect_refusal("count.elf", "Z0,10000d,1;X8,2600012327101327");
  const auto vmm = start("count.elf");
  // A lab says nothing meanwhile, and is taken for dead when it does so for two minutes.
  const bool in_lab = !test_lab().empty();
  const unsigned first = in_lab ? 100 : 10000;
  const std::string condition = fmt::format("$rbx == {}", first);
  const std::string text =
      gdb("count.elf",
          {"break counted if " + condition,
           fmt::format("break counted if *(long *)0x200000 == {} && $rcx == 0", first + 50),
           "continue", "p $rbx", "info breakpoints", "set $rcx = 0", "continue", "p $rbx",
           in_lab ? "delete" : "p 0", "continue"});
  EXPECT_THAT(text, HasSubstr("\nBreakpoint 1, "));
  EXPECT_THAT(text, HasSubstr(fmt::format("$1 = {}\n", first)));
  EXPECT_THAT(text, HasSubstr("stop only if " + condition + " (target evals)"));
  EXPECT_THAT(text, HasSubstr("breakpoint already hit 1 time\n"));
  EXPECT_THAT(text, HasSubstr("\nBreakpoint 2, "));
  EXPECT_THAT(text, HasSubstr(fmt::format("$2 = {}\n", first + 50)));
  EXPECT_THAT(text, HasSubstr("exited normally"));
  EXPECT_EQ(vmm->finish().code, 0) << text;
}

TEST_F(Gdb, a_client_hears_of_no_stop_whose_condition_is_false) {
  if (only_steps_work()) return expect_refusal("count.elf", "Z1,10000d,1;X8,2600012327101327");
  const auto vmm = start("count.elf");
  RspClient client = connect();
  // The place of `counted`, after `xor`, `inc` and `mov`: where 2710h stands in RBX, in a lab 64h.
  const bool in_lab = !test_lab().empty();
  ASSERT_EQ(
      client.ask(in_lab ? "Z1,10000d,1;X8,2600012300641327" : "Z1,10000d,1;X8,2600012327101327"),
      "OK");
  client.send("vCont;c");
  EXPECT_EQ(client.next(), "T05thread:1;hwbreak:;");
  EXPECT_EQ(client.ask("p1"), in_lab ? "6400000000000000" : "1027000000000000");
  if (in_lab) {
    EXPECT_EQ(client.ask("z1,10000d,1"), "OK");
  }
  // Neither of the remaining thousand, but the end.
  EXPECT_EQ(client.ask("vCont;c"), "W00");
  EXPECT_EQ(vmm->finish().code, 0);
}

TEST_F(Gdb, a_guest_whose_condition_stays_false_is_interrupted) {
  if (only_steps_work()) return expect_refusal("spin.elf", "Z0,100000,1;X3,220027");
  const auto vmm = start("spin.elf");
  RspClient client = connect();
  ASSERT_EQ(client.ask("Z0,100000,1;X3,220027"), "OK");
  client.send("vCont;c");
  EXPECT_EQ(client.next(1), "(nothing)");
  client.send_bytes("\x03");
  EXPECT_THAT(client.next(), StartsWith("T02"));
  // One that cannot be asked stops: no memory is mapped there.
  ASSERT_EQ(client.ask("Z0,100000,1;Xb,25ffff8000000000001727"), "OK");
  EXPECT_THAT(client.ask("vCont;c"), StartsWith("T05"));
  client.send("k");
  EXPECT_EQ(vmm->finish().code, 0);
}

// The example's script as its README has it, but for the lab.
TEST_F(Gdb, the_example_shows_what_it_promises) {
  if (only_steps_work()) return expect_refusal("gdb-attach.elf", "Z1,100000,1", {"--smp", "2"});
  std::filesystem::create_directory_symlink(FETCHED_DIR, folder_.file("build"));
  std::string script = read_text_file(SOURCE_DIR "/examples/gdb-attach/demo.gdb");
  const std::string run = "build/vmm run";
  ASSERT_NE(script.find(run), std::string::npos);
  script.replace(script.find(run), run.size(),
                 fmt::format("build/vmm {} run", fmt::join(lab_words(), " ")));
  const std::string text = output_of(
      fmt::format("cd {} && timeout 300 gdb -nx -batch -ex 'set remotetimeout 60' -x {} 2>&1",
                  folder_.file("."), folder_.write("demo.gdb", script)));
  EXPECT_THAT(text, ContainsRegex("=> 0x100000 <_start>"));
  EXPECT_THAT(text, ContainsRegex("#1 .* in _start \\(\\)"));
  EXPECT_THAT(text, ContainsRegex("  1 +Thread 1 \"vCPU 0\" \\(64-bit, CPL 0\\)"));
  EXPECT_THAT(text, ContainsRegex("\\* 2 +Thread 2 \"vCPU 1\" \\(64-bit, CPL 0\\) ap_main"));
  // 200 steps with a timer of 1 ms.
  EXPECT_THAT(text, ContainsRegex("#0 .* in work \\(")) << text;
  EXPECT_THAT(text, ContainsRegex("PML4E.1. at [0-9a-f]+h = 0h not present"));
  EXPECT_THAT(text, ContainsRegex("vCPU 0 stopped at the breakpoint .*page_fault_entry"));
  EXPECT_THAT(text, HasSubstr("#PF"));
  // Through the frame of the exception.
  EXPECT_THAT(text, ContainsRegex("#0 +page_fault \\(address=549755813888, error_code=2\\)"));
  EXPECT_THAT(text, ContainsRegex("#1 +(<signal handler called>|.* in page_fault_entry)"));
  EXPECT_THAT(text, ContainsRegex("#2 .*write_through"));
  EXPECT_THAT(text, ContainsRegex("#3 .*guest_main"));
}

TEST_F(Gdb, steps_leave_the_timer_pending) {
  if (only_steps_work()) return expect_refusal("gdb-attach.elf", "Z1,100000,1");
  const auto vmm = start("gdb-attach.elf");
  const std::string text =
      gdb("gdb-attach.elf", {"thbreak work", "continue", "p ticks", "stepi 300", "p ticks",
                             "p $rip >= (long)work", "kill"});
  const auto value = [&](const std::string& name) {
    const std::size_t at = text.find("$" + name + " = ");
    return at == text.npos ? "no " + name : text.substr(at + 5, text.find('\n', at) - at - 5);
  };
  EXPECT_EQ(value("1"), value("2")) << text;
  EXPECT_EQ(value("3"), "true") << text;
  vmm->finish();
}

TEST_F(Gdb, a_guest_that_died_is_kept) {
  const auto vmm = start("triple-fault.elf", {"--on-crash", "gdb"});
  const std::string text =
      gdb("triple-fault.elf", {"continue", "x/i $rip", "info threads", "continue"});
  EXPECT_THAT(text, HasSubstr("SIGSEGV"));
  EXPECT_THAT(text, HasSubstr("=> 0x"));
  EXPECT_THAT(text, ContainsRegex("exited with code 0?120")) << "80 in octal";
  const RunResult r = vmm->finish();
  EXPECT_EQ(r.code, 80) << r.text();
  EXPECT_THAT(r.err, HasSubstr("kept for the debugger"));
}

// Whoever comes after the death finds it, as often as they like.

TEST_F(Gdb, a_guest_that_died_alone_waits_for_its_debugger) {
  const auto vmm = start("triple-fault.elf", {"--on-crash", "gdb", "--gdb-nowait"});
  EXPECT_TRUE(vmm->wait_for_output("kept for the debugger"));
  for (int i = 0; i < 2; ++i) {
    RspClient client = connect();
    EXPECT_EQ(client.ask("?"), "T0bthread:1;");
  }
  // By a signal here; of what runs in a lab that would be the end of the command that waits for it.
  if (test_lab().empty())
    vmm->kill(SIGTERM);
  else
    connect().send("k");
  EXPECT_EQ(vmm->finish().code, 80);
  const RunResult r = run_guest("exit-0.elf", {"--on-crash", "gdb"});
  EXPECT_EQ(r.code, 64) << r.text();
  EXPECT_THAT(r.err, HasSubstr("--on-crash gdb needs --gdb"));
}

}  // namespace
}  // namespace vmm
