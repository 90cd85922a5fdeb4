// A debugger on standard input and output: gdb that starts vmm itself, and packets through pipes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "guest-tests/run_vmm.h"
#include "guest-tests/shell_output.h"
#include "vmm/gdb/packet.h"

namespace vmm {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

class GdbStdio : public KvmTest {
 protected:
  void SetUp() override {
    KvmTest::SetUp();
    if (!test_lab().empty()) GTEST_SKIP() << "--gdb stdio is refused in a lab";
  }
  std::string serial() const { return folder_.file("serial.txt"); }
  std::vector<std::string> words(const std::string& guest) const {
    return {"run", "--gdb", "stdio", "--serial", "file:" + serial(), guest_path(guest)};
  }
  std::string errors() const { return folder_.file("errors.txt"); }
  // What is in that file once `text` is, or after some seconds: gdb does not wait for vmm's end.
  std::string errors_with(const std::string& text) const {
    for (int tries = 0; tries < 500; ++tries) {
      if (read_text_file(errors()).find(text) != std::string::npos) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return read_text_file(errors());
  }
  // What gdb and the vmm that it starts print. gdb passes vmm's stderr on while it reads from it,
  // and not what comes after its own "kill": a test of that takes stderr away by `redirection`.
  std::string gdb(const std::string& guest, const std::vector<std::string>& commands,
                  const std::string& redirection = {}) const {
    std::string line = fmt::format(
        "timeout 50 gdb -nx -batch -ex 'set pagination off' -ex 'target remote | " VMM_BINARY
        " {}{}'",
        fmt::join(words(guest), " "), redirection);
    for (const std::string& command : commands) line += fmt::format(" -ex '{}'", command);
    return output_of(line + fmt::format(" {} 2>&1", guest_path(guest)));
  }
  std::unique_ptr<VmmProcess> start(const std::string& guest) const {
    return std::make_unique<VmmProcess>(
        RunSetup{.arguments = words(guest), .in = ChildStdin::Open});
  }

  const TempFolder folder_;
};

TEST_F(GdbStdio, gdb_starts_the_monitor_and_debugs_its_guest) {
  const std::string text =
      gdb("hello.elf", {"break kernel_main", "continue", "bt", "monitor walk kernel_main",
                        "x/2000bx 0x100000", "continue"});
  EXPECT_THAT(text, HasSubstr("Breakpoint 1, ")) << text;
  EXPECT_THAT(text, ContainsRegex("#0 .*kernel_main")) << text;
  EXPECT_THAT(text, HasSubstr("PML4E[0] at")) << text;
  EXPECT_THAT(text, HasSubstr("exited normally")) << text;
  EXPECT_THAT(text, Not(HasSubstr("waiting for the debugger"))) << text;
  EXPECT_THAT(read_text_file(serial()), HasSubstr("Hello from"));
}

// gdb 13 gives its child a session of its own; others do not, and then Ctrl-C comes as SIGINT too.
TEST_F(GdbStdio, ctrl_c_in_gdb_interrupts_the_guest) {
  const std::string text =
      gdb("spin.elf", {"shell (sleep 1; kill -INT $PPID $(pgrep -P $PPID vmm)) &", "continue",
                       "p $rip >= 0x100000", "kill"});
  EXPECT_THAT(text, HasSubstr("SIGINT")) << text;
  EXPECT_THAT(text, HasSubstr("$1 = 1")) << text;
  EXPECT_THAT(text, HasSubstr("killed]")) << text;
}

TEST_F(GdbStdio, quitting_gdb_ends_the_run) {
  const std::string text = gdb("spin.elf", {"info registers rip"}, " 2>" + errors());
  EXPECT_THAT(text, HasSubstr("0x100000")) << text;
  const std::string said = errors_with("vmm: quit");
  EXPECT_THAT(said, HasSubstr("vmm: quit")) << text << said;
}

TEST_F(GdbStdio, standard_output_has_packets_only) {
  const auto vmm = start("hello.elf");
  vmm->send(gdb::frame("QStartNoAckMode") + "+" + gdb::frame("m100000,2000") +
            gdb::frame("vCont;c"));
  EXPECT_TRUE(vmm->wait_for_output("W00"));
  const RunResult r = vmm->finish();
  EXPECT_EQ(r.code, 0) << r.text();
  ASSERT_EQ(r.out.substr(0, 8), "+$OK#9a$") << r.text();
  EXPECT_EQ(r.out.substr(r.out.size() - 7), gdb::frame("W00"));
  EXPECT_EQ(r.out.find('\n'), std::string::npos);
  // 8 KiB in hexadecimal between them.
  EXPECT_EQ(r.out.size(), 7 + (2 * 8192 + 4) + 7) << r.text();
}

TEST_F(GdbStdio, sigint_is_the_debuggers_and_sigterm_ends) {
  const auto vmm = start("spin.elf");
  vmm->send(gdb::frame("vCont;c"));
  ASSERT_TRUE(vmm->wait_for_output("+"));
  vmm->kill(SIGINT);
  EXPECT_TRUE(vmm->wait_for_output("$T02"));
  // Of a guest that is stopped already it changes nothing.
  vmm->kill(SIGINT);
  vmm->send("+" + gdb::frame("qC"));
  EXPECT_TRUE(vmm->wait_for_output("QC1"));
  vmm->kill(SIGTERM);
  EXPECT_EQ(vmm->finish().code, 128 + SIGTERM);
}

TEST_F(GdbStdio, a_debugger_that_goes_without_a_word_ends_the_run) {
  for (const char* packet : {"qC", "vCont;c"}) {
    const auto vmm = start("spin.elf");
    vmm->send(gdb::frame(packet));
    ASSERT_TRUE(vmm->wait_for_output("+"));
    vmm->close_input();
    const RunResult r = vmm->finish();
    EXPECT_EQ(r.code, 128 + SIGHUP) << r.text();
    EXPECT_THAT(r.err, HasSubstr("the debugger has closed standard input")) << r.text();
  }
}

TEST_F(GdbStdio, a_guest_that_died_is_kept_until_the_debugger_goes) {
  RunSetup setup{.arguments = words("triple-fault.elf"), .in = ChildStdin::Open};
  setup.arguments.insert(setup.arguments.begin() + 1, {"--on-crash", "gdb"});
  VmmProcess vmm(setup);
  vmm.send(gdb::frame("vCont;c"));
  ASSERT_TRUE(vmm.wait_for_output("$T0bthread:1;"));
  vmm.kill(SIGINT);
  vmm.send("+" + gdb::frame("qC"));
  EXPECT_TRUE(vmm.wait_for_output("QC1"));
  vmm.close_input();
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 80) << r.text();
  EXPECT_THAT(r.err, HasSubstr("kept for the debugger (detach or kill ends it)")) << r.text();
}

TEST_F(GdbStdio, a_debugger_that_detaches_leaves_the_guest_to_its_end) {
  const RunResult r = run_vmm({.arguments = words("exit-1.elf"), .input = gdb::frame("D")});
  EXPECT_EQ(r.code, 1) << r.text();
  EXPECT_THAT(r.out, HasSubstr("$OK#9a")) << r.text();
}

// Nobody reads: the answers wait, and the run still ends when it is told to.
TEST_F(GdbStdio, a_pipe_that_nobody_reads_blocks_nothing) {
  VmmProcess vmm(
      {.arguments = words("spin.elf"), .in = ChildStdin::Open, .out = ChildStdout::Stuck});
  std::string packets;
  for (int i = 0; i < 40; ++i) packets += gdb::frame("m100000,1000");
  vmm.send(packets);
  ASSERT_TRUE(vmm.wait_until_running());
  vmm.kill(SIGTERM);
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 128 + SIGTERM) << r.text();
  EXPECT_FALSE(r.hung);
}

TEST_F(GdbStdio, a_reader_that_is_gone_ends_the_run) {
  VmmProcess vmm(
      {.arguments = words("spin.elf"), .in = ChildStdin::Open, .out = ChildStdout::Gone});
  vmm.send(gdb::frame("qC") + gdb::frame("qC"));
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 128 + SIGHUP) << r.text();
}

TEST_F(GdbStdio, what_else_wants_the_descriptors_is_refused) {
  const auto refused = [&](std::vector<std::string> options, const char* why, const char* hint) {
    options.insert(options.begin(), {"run", "--gdb", "stdio"});
    options.push_back(guest_path("exit-0.elf"));
    const RunResult r = run_vmm({.arguments = options});
    EXPECT_EQ(r.code, 64) << r.text();
    EXPECT_THAT(r.err, HasSubstr(why)) << r.text();
    EXPECT_THAT(r.err, HasSubstr(hint)) << r.text();
    EXPECT_EQ(r.out, "");
  };
  refused({}, "both want standard output", "--serial file:P");
  refused({"--serial", "stdio"}, "both want standard output", "--serial null");
  refused({"--serial", "null", "--gdb-nowait"}, "there from the start", "--gdb unix:PATH");
  refused({"--serial", "null", "--on", "svm"}, "a lab does not carry", "--gdb unix:PATH");
  RunSetup terminal{
      .arguments = words("exit-0.elf"), .in = ChildStdin::Terminal, .out = ChildStdout::Terminal};
  const RunResult r = run_vmm(terminal);
  EXPECT_EQ(r.code, 64) << r.text();
  EXPECT_THAT(r.err, HasSubstr("a terminal is no debugger")) << r.text();
}

}  // namespace
}  // namespace vmm
