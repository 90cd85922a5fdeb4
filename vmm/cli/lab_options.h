// The options about a lab, the same for `vmm lab` and for `vmm run --on`.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cli/commands.h"
#include "vmm/lab/lab.h"

namespace vmm {

struct LabOptions {
  unsigned cpus = 1;
  std::string memory;
  std::string cpu;
  bool icount = false;
  std::string kernel;
  std::string modules;
  std::vector<std::string> kvm_params;
  bool fresh = false;
  std::string log_dir;
  double watchdog = 120;
};

void add_lab_options(CLI::App& app, LabOptions& options);
// Errors of kind Usage.
Result<LabSpec> make_lab_spec(const LabOptions& options, LabBackend backend);
std::chrono::seconds watchdog_of(const LabOptions& options);

// The words of `command_line` without `--on` and the options about the lab: what runs inside.
std::vector<std::string> without_lab_options(const std::vector<std::string>& command_line);

// Readable once SIGINT, SIGTERM or SIGHUP has come. While it exists they do nothing else.
class SignalWatch {
 public:
  static Result<SignalWatch> start();
  int fd() const { return fd_.get(); }
  // The signal that came, if one did.
  std::optional<int> taken() const;

 private:
  explicit SignalWatch(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

// `arguments` (without the program's name) as a command for a lab: this program, the directory that
// it runs in, the files that `command` names. Errors: those of command.paths(), Usage when the
// command has no place in a lab.
Result<LabCommand> make_lab_command(const Command& command,
                                    const std::vector<std::string>& arguments,
                                    const std::vector<std::string>& command_line);

// Runs `execute` with this process' streams, its terminal in raw mode if it is one, and turns the
// end of the command into an exit code: the command's own, 128+n for a signal of its own or ours.
Result<int> run_with_streams(
    LabCommand command, const SignalWatch& signals,
    const std::function<Result<LabExit>(const LabCommand&, const LabStreams&)>& execute);

// Boots a lab, runs the command, ends the lab. `quiet`: no lines of our own.
Result<int> run_in_new_lab(const LabSpec& spec, std::chrono::seconds watchdog, LabCommand command,
                           bool quiet);

}  // namespace vmm
