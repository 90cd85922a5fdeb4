// Runs the product as a user would: a child process with its own descriptors, watched so that a
// hang is a failed test and not a hung one.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>
#include <termios.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/fd.h"

namespace vmm {

// A child that runs longer than this is killed, and its result says so; RunSetup may give more.
inline constexpr std::chrono::seconds kHangLimit{60};
inline constexpr std::chrono::seconds kLabHangLimit{600};

// The lab that is up under the name in VMM_TEST_LAB: then every command runs there, by `vmm lab
// exec` (tools/test starts it). Empty on this machine's own KVM.
std::string test_lab();
// The words in front of a command of vmm that take it there: "lab exec --name NAME --", or none.
std::vector<std::string> lab_words();

enum class ChildStdin {
  Text,      // a pipe that gets RunSetup::input and is closed then
  Open,      // a pipe that stays open until send() and close_input()
  Closed,    // no descriptor 0
  Terminal,  // the slave of a new pseudoterminal, also its controlling terminal
};

enum class ChildStdout {
  Captured,
  Closed,    // no descriptor 1
  Gone,      // a pipe without a reader
  Stuck,     // a pipe that nobody reads
  Terminal,  // the pseudoterminal of ChildStdin::Terminal; what arrives is captured
};

struct RunSetup {
  std::vector<std::string> arguments{};  // without the program
  std::string input{};
  std::vector<std::pair<std::string, std::string>> environment{};  // added to ours
  ChildStdin in = ChildStdin::Text;
  ChildStdout out = ChildStdout::Captured;
  bool err_on_terminal = false;       // stderr is that pseudoterminal as well
  uid_t user = 0;                     // not 0: the child gives up root for this user before it runs
  std::chrono::seconds more_time{0};  // beside the limit above
  bool here = false;                  // on this machine, even if there is a test_lab()
};

struct RunResult {
  int code = -1;   // what it exited with; -1 if a signal ended it
  int signal = 0;  // the signal that ended it, or 0
  bool hung = false;
  std::string out, err;
  double seconds = 0;

  std::string last_error_line() const;
  // stderr with the lines of its card as they were before they were wrapped.
  std::string unwrapped_err() const;
  // How it ended and all it said, for a failed expectation.
  std::string text() const;
};

class VmmProcess {
 public:
  explicit VmmProcess(RunSetup setup);
  VmmProcess(const VmmProcess&) = delete;
  VmmProcess& operator=(const VmmProcess&) = delete;
  ~VmmProcess();

  // Each returns false if the child ends, or kHangLimit passes, before it is so.
  bool wait_for_output(const std::string& text);
  // The guest may run: the vCPU threads are there, signals and seccomp are set up.
  bool wait_until_running(unsigned vcpus = 1);
  bool wait_until(const std::function<bool()>& condition);

  pid_t pid() const { return pid_; }
  void send(std::string_view input);
  void close_input() { in_ = Fd(); }
  void kill(int signal);
  // Stops the child, waits until it stands still, and lets it go on.
  void stop_and_continue();
  // What Ctrl-S and Ctrl-Q do: while output is held, whoever writes to the terminal waits.
  void hold_terminal_output(bool hold);
  // From now on nobody reads what comes to the terminal, and it fills.
  void leave_terminal_unread() { terminal_is_read_ = false; }
  // Mode of the pseudoterminal; also after the child has ended.
  termios terminal_mode() const;

  RunResult finish();

 private:
  void child_exec(const RunSetup& setup, int in, int out, int err);
  void pump(std::chrono::milliseconds wait);
  bool reaped(bool block);
  bool over_limit() const;

  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
  RunResult result_;
  std::string to_send_;
  bool close_when_sent_ = false;
  bool terminal_is_read_ = true;
  Fd in_, out_, err_, terminal_master_, terminal_slave_, stuck_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::seconds limit_;
};

RunResult run_vmm(RunSetup setup);
// vmm run ARGUMENTS with an empty standard input.
RunResult run_guest(const std::string& guest, std::vector<std::string> options = {},
                    std::string input = {});

// The path of a test guest, "hello.elf".
std::string guest_path(const std::string& name);

// What `vmm host --json` calls this host's KVM: vmx, svm or pvm.
std::string host_backend();

std::string read_text_file(const std::string& path);
nlohmann::json read_json_file(const std::string& path);

// A folder of its own that goes with it.
class TempFolder {
 public:
  TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder();
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, std::string_view text) const;

 private:
  std::string path_;
};

// Skips its tests, saying why, where guests cannot run.
class KvmTest : public testing::Test {
 protected:
  void SetUp() override;
};

}  // namespace vmm
