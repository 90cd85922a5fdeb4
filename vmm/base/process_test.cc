#include "vmm/base/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// A script is what the tests run: /bin/sh is everywhere.
ProcessSpec shell(std::string script) {
  return {.argv = {"sh", "-c", std::move(script)},
          .environment = {},
          .directory = {},
          .inherit = {},
          .output = -1,
          .log = {}};
}

ChildProcess started(const ProcessSpec& spec) {
  auto child = ChildProcess::start(spec);
  EXPECT_TRUE(child) << child.error().text();
  return std::move(child).value();
}

std::string wait_for_death(ChildProcess& child) {
  for (int i = 0; i < 6000; ++i) {
    if (auto text = child.death()) return *text;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return "it still lives";
}

bool wait_for_text(ChildProcess& child, std::string_view text) {
  for (int i = 0; i < 6000; ++i) {
    if (child.death()) return false;
    if (child.output().tail().last().find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(ChildProcess, death_says_how_and_quotes_the_last_lines) {
  ChildProcess child = started(shell("echo one; echo two >&2; exit 3"));
  const pid_t pid = child.pid();
  EXPECT_EQ(wait_for_death(child),
            "sh (PID " + std::to_string(pid) + ") exited with 3; its last lines: one | two");
}

TEST(ChildProcess, death_names_the_signal) {
  ChildProcess child = started(shell("kill -ABRT $$"));
  EXPECT_THAT(wait_for_death(child), HasSubstr(") was ended by SIGABRT"));
}

TEST(ChildProcess, a_living_process_has_no_death) {
  ChildProcess child = started(shell("echo ready; exec sleep 1000"));
  EXPECT_TRUE(wait_for_text(child, "ready"));
  EXPECT_FALSE(child.death());
}

TEST(ChildProcess, its_owner_takes_it_along) {
  pid_t pid = 0;
  {
    ChildProcess child = started(shell("sleep 1000 & echo ready; wait"));
    ASSERT_TRUE(wait_for_text(child, "ready"));
    pid = child.pid();
    EXPECT_EQ(::kill(-pid, 0), 0);
  }
  // The helper in its process group has to be collected by init, which may take a moment.
  for (int i = 0; i < 1000 && ::kill(-pid, 0) == 0; ++i) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_NE(::kill(pid, 0), 0);
}

TEST(ChildProcess, a_stopped_process_can_be_resumed_and_be_killed) {
  {
    ChildProcess child = started(shell("echo ready; while :; do sleep 0.01; echo on; done"));
    ASSERT_TRUE(wait_for_text(child, "ready"));
    child.pause();
    EXPECT_FALSE(child.death());
    child.resume();
    EXPECT_TRUE(wait_for_text(child, "on"));
    child.pause();
  }  // must not hang
}

TEST(ChildProcess, it_leads_a_session_of_its_own) {
  ChildProcess child = started(shell("echo ready; exec sleep 1000"));
  ASSERT_TRUE(wait_for_text(child, "ready"));
  EXPECT_EQ(::getsid(child.pid()), child.pid());
}

TEST(ChildProcess, only_inherited_descriptors_stay_open) {
  const Fd kept(::memfd_create("kept", MFD_CLOEXEC));
  const Fd other(::memfd_create("other", 0));
  ASSERT_TRUE(kept && other);
  ASSERT_EQ(::write(kept.get(), "inside\n", 7), 7);
  ProcessSpec spec = shell("cat /proc/self/fd/" + std::to_string(kept.get()) +
                           "; test -e /proc/self/fd/" + std::to_string(other.get()) + "; exit $?");
  spec.inherit = {kept.get()};
  ChildProcess child = started(spec);
  EXPECT_THAT(wait_for_death(child), HasSubstr("exited with 1; its last lines: inside"));
}

TEST(ChildProcess, endless_output_is_bounded) {
  const std::string log = testing::TempDir() + "process_test.log";
  ProcessSpec spec =
      shell("yes 'a line' | head -c 3000000; head -c 3000000 /dev/zero; echo; echo end");
  spec.log = log;
  ChildProcess child = started(spec);
  const std::string text = wait_for_death(child);
  EXPECT_THAT(text, HasSubstr("| end"));
  EXPECT_LT(text.size(), LineTail::kMaxLines * (4 * LineTail::kMaxLine + 3) + 100);
  std::ifstream file(log, std::ios::binary | std::ios::ate);
  EXPECT_GE(file.tellg(), 6000000);
  ::unlink(log.c_str());
}

TEST(ChildProcess, a_missing_program_is_said) {
  ProcessSpec spec = shell("");
  spec.argv = {"no-such-program-of-vmm"};
  const auto child = ChildProcess::start(spec);
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().kind(), ErrorKind::NoLab);
  EXPECT_EQ(child.error().text(), "no-such-program-of-vmm is not installed");
}

TEST(ChildProcess, a_program_that_cannot_be_executed_is_said) {
  std::string path = testing::TempDir() + "badprogramXXXXXX";
  const Fd file(::mkstemp(path.data()));
  ASSERT_EQ(::fchmod(file.get(), 0755), 0);
  ASSERT_EQ(::write(file.get(),
                    "\x7f"
                    "ELF",
                    4),
            4);
  ProcessSpec spec = shell("");
  spec.argv = {path};
  const auto child = ChildProcess::start(spec);
  ::unlink(path.c_str());
  ASSERT_FALSE(child);
  EXPECT_THAT(child.error().text(), StartsWith("execute " + path));
}

// A program of its own in between: its death must be what kills the grandchild.
TEST(ChildProcess, it_dies_with_its_parent) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const pid_t parent = ::fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    auto child = ChildProcess::start(shell("sleep 1000"));
    const pid_t pid = child ? child->pid() : -1;
    if (::write(pipe[1], &pid, sizeof pid) < 0) ::_exit(1);
    ::kill(::getpid(), SIGKILL);
  }
  pid_t grandchild = -1;
  ASSERT_EQ(::read(pipe[0], &grandchild, sizeof grandchild),
            static_cast<ssize_t>(sizeof grandchild));
  ASSERT_GT(grandchild, 0);
  ASSERT_EQ(::waitpid(parent, nullptr, 0), parent);
  bool gone = false;
  for (int i = 0; i < 1000 && !gone; ++i) {
    std::ifstream stat("/proc/" + std::to_string(grandchild) + "/stat");
    const std::string text((std::istreambuf_iterator<char>(stat)), {});
    gone = text.empty() || text.find(") Z ") != text.npos;
    if (!gone) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(gone);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST(RunTool, separates_output_from_complaints) {
  const auto run = run_tool({"sh", "-c", "echo out; echo LC=$LC_ALL; echo err >&2; exit 2"}, "/",
                            std::chrono::seconds(60));
  ASSERT_TRUE(run) << run.error().text();
  EXPECT_FALSE(run->ok);
  EXPECT_EQ(run->output, "out\nLC=C\n");
  EXPECT_THAT(run->death, HasSubstr("exited with 2; its last lines: err"));
}

TEST(RunTool, a_time_limit_ends_it) {
  const auto run = run_tool({"sleep", "1000"}, "/", std::chrono::seconds(1));
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().text(), "sleep did not end within 1 s");
}

TEST(RunTool, cancelling_ends_it) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  const auto run = run_tool({"sleep", "1000"}, "/", std::chrono::seconds(100), pipe[0]);
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().kind(), ErrorKind::Lab);
  EXPECT_EQ(run.error().text(), "sleep was interrupted");
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST(RunTool, too_much_output_is_an_error) {
  const auto run = run_tool({"yes"}, "/", std::chrono::seconds(100));
  ASSERT_FALSE(run);
  EXPECT_THAT(run.error().text(), HasSubstr("wrote more than 1 MiB"));
}

TEST(LineTail, control_characters_cannot_reach_a_terminal) {
  LineTail tail;
  const std::string_view text = "\x1b[2Jred\r\n\n  last";
  tail.add({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  EXPECT_EQ(tail.last(), "\\x1b[2Jred | last");
  EXPECT_EQ(tail.last(1), "last");
}

}  // namespace
}  // namespace vmm
