// What surrounds the guest while it runs: signals, streams that go away, the user's terminal.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>

#include <cstring>
#include <filesystem>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using testing::HasSubstr;

class Console : public KvmTest {};

TEST_F(Console, a_stop_signal_ends_the_run_with_its_number) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    VmmProcess vmm({.arguments = {"run", guest_path("spin.elf")}});
    ASSERT_TRUE(vmm.wait_until_running()) << vmm.finish().text();
    vmm.kill(signal);
    const RunResult r = vmm.finish();
    EXPECT_EQ(r.code, 128 + signal) << r.text();
    EXPECT_EQ(r.signal, 0);
    EXPECT_THAT(r.last_error_line(), HasSubstr("stopped by signal"));
  }
}

// A stopped poll goes on by itself, through a system call of its own.
TEST_F(Console, a_stopped_and_continued_monitor_goes_on) {
  VmmProcess vmm({.arguments = {"run", guest_path("serial-echo.elf")}, .in = ChildStdin::Open});
  ASSERT_TRUE(vmm.wait_for_output("type a line: ")) << vmm.finish().text();
  vmm.stop_and_continue();
  vmm.send("awake\n");
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("awake\n"));
}

TEST_F(Console, closed_streams_leave_the_verdict) {
  for (const ChildStdin in : {ChildStdin::Text, ChildStdin::Closed})
    for (const ChildStdout out : {ChildStdout::Captured, ChildStdout::Closed, ChildStdout::Gone}) {
      const RunResult r =
          run_vmm({.arguments = {"run", guest_path("exit-1.elf")}, .in = in, .out = out});
      EXPECT_EQ(r.code, 1) << r.text();
      const RunResult hello =
          run_vmm({.arguments = {"run", guest_path("hello.elf")}, .in = in, .out = out});
      EXPECT_EQ(hello.code, 0) << hello.text();
    }
}

// A file that is opened while descriptor 1 is free must not become the guest's console.
TEST_F(Console, closed_streams_do_not_lead_the_console_into_other_files) {
  const TempFolder folder;
  VmmProcess vmm({.arguments = {"run", guest_path("spin.elf"), "--outcome-json",
                                folder.file("outcome.json"), "--trace", folder.file("trace")},
                  .in = ChildStdin::Closed,
                  .out = ChildStdout::Closed});
  ASSERT_TRUE(vmm.wait_until_running()) << vmm.finish().text();
  for (const int fd : {0, 1})
    EXPECT_EQ(std::filesystem::read_symlink(fmt::format("/proc/{}/fd/{}", vmm.pid(), fd)),
              "/dev/null");
  vmm.kill(SIGTERM);
  EXPECT_EQ(vmm.finish().code, 128 + SIGTERM);
  EXPECT_EQ(read_json_file(folder.file("outcome.json"))["ending"]["kind"], "signal");
}

TEST_F(Console, a_reader_that_never_reads_blocks_no_vcpu) {
  const std::string much(200000, 'x');  // comes back; more than any pipe and buffer hold
  const RunResult r =
      run_vmm({.arguments = {"run", guest_path("serial-echo.elf"), "--timeout", "2"},
               .input = much,
               .out = ChildStdout::Stuck});
  EXPECT_FALSE(r.hung);
  EXPECT_EQ(r.code, 124) << r.text();
}

// ---- the terminal

bool same(const termios& a, const termios& b) {
  return a.c_iflag == b.c_iflag && a.c_oflag == b.c_oflag && a.c_cflag == b.c_cflag &&
         a.c_lflag == b.c_lflag && std::memcmp(a.c_cc, b.c_cc, sizeof a.c_cc) == 0;
}

bool raw(const termios& mode) { return (mode.c_lflag & (ICANON | ECHO | ISIG)) == 0; }

RunSetup on_terminal(const std::string& guest, std::vector<std::string> options = {}) {
  RunSetup setup{.arguments = {"run", guest_path(guest)},
                 .in = ChildStdin::Terminal,
                 .out = ChildStdout::Terminal};
  setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
  return setup;
}

TEST_F(Console, ctrl_a_x_quits_and_gives_the_terminal_back) {
  VmmProcess vmm(on_terminal("serial-echo.elf"));
  // Before the child has touched it: fork and exec take longer than this call, and a mode that is
  // already raw would fail the test, not pass it.
  const termios before = vmm.terminal_mode();
  ASSERT_FALSE(raw(before));
  ASSERT_TRUE(vmm.wait_for_output("type a line: ")) << vmm.finish().text();
  EXPECT_TRUE(raw(vmm.terminal_mode()));
  vmm.send("abc");
  EXPECT_TRUE(vmm.wait_for_output("abc"));
  vmm.send("\x01x");
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_TRUE(same(vmm.terminal_mode(), before));
}

TEST_F(Console, keys_of_the_terminal_with_the_screen_reach_the_guest_s_keyboard) {
  const TempFolder folder;
  const std::string serial = folder.file("serial");
  VmmProcess vmm(on_terminal("keyboard.elf", {"--vga", "text", "--serial", "file:" + serial}));
  const auto says = [&](const char* text) {
    return vmm.wait_until([&] { return read_text_file(serial).find(text) != std::string::npos; });
  };
  ASSERT_TRUE(says("type:")) << vmm.finish().text();
  vmm.send("aB\x1b[A");
  ASSERT_TRUE(says("c8h")) << vmm.finish().text();
  vmm.send("\x1b");
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(read_text_file(serial),
              HasSubstr("type: 1eh 9eh 2ah 30h b0h aah e0h 48h e0h c8h 1h 81h\n"));
}

TEST_F(Console, ctrl_a_twice_sends_one_and_ctrl_c_is_the_guest_s) {
  VmmProcess vmm(on_terminal("serial-echo.elf"));
  ASSERT_TRUE(vmm.wait_for_output("type a line: ")) << vmm.finish().text();
  vmm.send("\x01\x01\x03.\r");
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("\x01\x03."));
}

TEST_F(Console, a_guest_that_ends_gives_the_terminal_back) {
  VmmProcess vmm(on_terminal("exit-1.elf"));
  const termios before = vmm.terminal_mode();
  EXPECT_EQ(vmm.finish().code, 1);
  EXPECT_TRUE(same(vmm.terminal_mode(), before));
}

TEST_F(Console, a_stop_signal_gives_the_terminal_back) {
  VmmProcess vmm(on_terminal("spin.elf"));
  const termios before = vmm.terminal_mode();
  ASSERT_TRUE(vmm.wait_until_running()) << vmm.finish().text();
  EXPECT_TRUE(raw(vmm.terminal_mode()));
  vmm.kill(SIGTERM);
  EXPECT_EQ(vmm.finish().code, 128 + SIGTERM);
  EXPECT_TRUE(same(vmm.terminal_mode(), before));
}

TEST_F(Console, a_crash_gives_the_terminal_back) {
#if defined(VMM_ASAN) || defined(VMM_TSAN)
  GTEST_SKIP() << "the sanitizer takes these signals";
#endif
  for (const int signal : {SIGABRT, SIGSEGV}) {
    VmmProcess vmm(on_terminal("spin.elf"));
    const termios before = vmm.terminal_mode();
    ASSERT_TRUE(vmm.wait_until_running()) << vmm.finish().text();
    EXPECT_TRUE(raw(vmm.terminal_mode()));
    vmm.kill(signal);
    EXPECT_EQ(vmm.finish().signal, signal);
    EXPECT_TRUE(same(vmm.terminal_mode(), before)) << "signal " << signal;
  }
}

TEST_F(Console, the_live_screen_leaves_the_terminal_as_it_was) {
  const TempFolder folder;
  VmmProcess vmm(
      on_terminal("hello.elf", {"--vga", "text", "--serial", "file:" + folder.file("serial")}));
  const termios before = vmm.terminal_mode();
  const RunResult r = vmm.finish();
  EXPECT_EQ(r.code, 0) << r.text();
  const std::size_t enter = r.out.find("\x1b[?1049h"), leave = r.out.rfind("\x1b[?1049l");
  ASSERT_NE(enter, std::string::npos);
  ASSERT_NE(leave, std::string::npos);
  EXPECT_LT(enter, leave);
  EXPECT_TRUE(same(vmm.terminal_mode(), before));
}

// ---- a terminal that takes nothing must not keep a run from its end

TEST_F(Console, a_held_terminal_does_not_hold_up_the_end_of_a_run) {
  struct Case {
    const char* guest;
    std::vector<std::string> options;
  };
  for (const Case& c :
       {Case{"vga-busy.elf", {"--vga", "text", "--serial", "null"}},
        Case{"hello.elf", {"--vga", "text", "--serial", "null"}}, Case{"serial-echo.elf", {}}}) {
    RunSetup setup = on_terminal(c.guest, c.options);
    setup.arguments.insert(setup.arguments.end(), {"--timeout", "0.5"});
    VmmProcess vmm(setup);
    vmm.hold_terminal_output(true);
    const RunResult r = vmm.finish();
    EXPECT_FALSE(r.hung) << c.guest;
    EXPECT_EQ(r.code, std::string_view(c.guest) == "hello.elf" ? 0 : 124) << r.text();
  }
}

TEST_F(Console, a_terminal_that_nobody_reads_does_not_hold_up_a_stop_signal) {
  VmmProcess vmm(on_terminal("vga-busy.elf", {"--vga", "text", "--serial", "null"}));
  vmm.leave_terminal_unread();
  ASSERT_TRUE(vmm.wait_until_running()) << vmm.finish().text();
  // Many pictures more than it has room for.
  const auto start = std::chrono::steady_clock::now();
  vmm.wait_until(
      [&] { return std::chrono::steady_clock::now() - start > std::chrono::seconds(1); });
  vmm.kill(SIGTERM);
  const RunResult r = vmm.finish();
  EXPECT_FALSE(r.hung);
  EXPECT_EQ(r.code, 128 + SIGTERM) << r.text();
}

TEST_F(Console, results_are_written_although_the_report_s_terminal_is_held) {
  const TempFolder folder;
  RunSetup setup = on_terminal("vga-busy.elf", {"--vga", "text", "--serial", "null",
                                                "--outcome-json", folder.file("outcome.json")});
  setup.err_on_terminal = true;
  VmmProcess vmm(setup);
  ASSERT_TRUE(vmm.wait_until_running()) << vmm.finish().text();
  vmm.hold_terminal_output(true);
  vmm.leave_terminal_unread();
  vmm.kill(SIGTERM);
  const RunResult r = vmm.finish();
  EXPECT_FALSE(r.hung);
  EXPECT_EQ(r.code, 128 + SIGTERM) << r.text();
  EXPECT_EQ(read_json_file(folder.file("outcome.json"))["ending"]["kind"], "signal");
}

}  // namespace
}  // namespace vmm
