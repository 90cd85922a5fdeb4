// A child process with one owner: started without a shell, out of reach of the terminal's Ctrl-C,
// gone when its owner goes.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/output_tail.h"

namespace vmm {

// The absolute path of a program found in PATH (or `name` itself when it has a slash and can be
// executed).
std::optional<std::string> find_program(const std::string& name);

struct ProcessSpec {
  std::vector<std::string> argv;         // argv[0] is a path or is looked up in PATH
  std::vector<std::string> environment;  // NAME=VALUE, put over the caller's own
  std::string directory;                 // to run in; empty is the caller's
  std::vector<int> inherit;  // descriptors that keep their numbers; all others above 2 are closed
  int output = -1;           // standard output; -1 joins it with standard error in the tail
  std::string log;           // a file that receives what the tail takes in; empty is none
};

class ChildProcess {
 public:
  // Starts the program in a session of its own, standard input empty, signals at their defaults.
  // The kernel kills it when the THREAD that called start() ends, so that has to be one that lives
  // as long as the process shall. Errors: NoLab when there is no such program, Lab when it cannot
  // be executed, Usage when the log file cannot be opened.
  static Result<ChildProcess> start(const ProcessSpec& spec);
  // SIGKILL to the whole session's process group; returns when the process is reaped.
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Readable once the process has ended.
  const Fd& pidfd() const { return pidfd_; }
  // Standard error (and output, if joined); drain it from time to time, for a full pipe stops the
  // child. ended() and death() do.
  OutputTail& output() { return output_; }

  // The status as waitid(2) has it: how (CLD_EXITED, CLD_KILLED, CLD_DUMPED) and the code or
  // signal.
  struct Status {
    int how = 0;
    int value = 0;
    bool ok() const;  // exited with 0
  };
  // Nothing while the process lives. Does not wait.
  std::optional<Status> ended();
  // Nothing while it lives; then "NAME (PID 12) was ended by SIGABRT; its last lines: a | b".
  std::optional<std::string> death();

  void pause();
  void resume();

 private:
  ChildProcess(std::string name, pid_t pid, Fd pidfd, OutputTail output)
      : name_(std::move(name)), pid_(pid), pidfd_(std::move(pidfd)), output_(std::move(output)) {}

  std::string name_;
  pid_t pid_ = -1;
  Fd pidfd_;
  OutputTail output_;
  std::optional<Status> status_;
};

// Waits for `time`, or until `cancel` (if not -1) is readable: then true.
Result<bool> wait_for_cancel(int cancel, std::chrono::milliseconds time);

struct ToolRun {
  std::string output;  // standard output
  std::string death;   // as death() says it, with the last lines of standard error
  bool ok = false;
};

// Runs a tool to its end. Errors: NoLab when it is not installed; Lab when `limit` passes, when it
// writes more than 1 MiB to standard output, or when `cancel` (if not -1) becomes readable: it is
// killed then.
Result<ToolRun> run_tool(const std::vector<std::string>& argv, const std::string& directory,
                         std::chrono::seconds limit, int cancel = -1);

}  // namespace vmm
