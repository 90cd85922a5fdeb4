// The commands of `vmm`, one file each.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/session.h"

namespace vmm {

// The command that was picked, its options understood. The functions own them.
struct Command {
  // Runs it and returns its exit code; an Error is printed by main().
  std::function<Result<int>()> run;
  // For a lab: the files that the command names, as it names them. Errors as run() would have them
  // for options that cannot be and inputs that cannot be read. Empty for a command that has no
  // place in a lab.
  std::function<Result<std::vector<PathUse>>()> paths;
  // For a lab that failed before the command could report: leaves the outcome where it was wanted.
  std::function<void(const Error&)> record_failure;
};

// Each adds its subcommand with its options to `app` and fills `chosen` when the user picked it.
// `command_line` is argv, for the outcome.
void add_run_command(CLI::App& app, Command& chosen, std::vector<std::string> command_line);
void add_host_command(CLI::App& app, Command& chosen);
// `command_line` is argv: what stands behind the first -- of a bisection is its guest.
void add_cpu_command(CLI::App& app, Command& chosen, const std::vector<std::string>& command_line);
void add_ctl_command(CLI::App& app, Command& chosen);
void add_matrix_command(CLI::App& app, Command& chosen);
void add_explain_command(CLI::App& app, Command& chosen);
void add_vmcs_command(CLI::App& app, Command& chosen);
// What stands behind the first -- is for the lab, and not for `app` to parse.
void add_lab_command(CLI::App& app, Command& chosen, std::vector<std::string> command_line);

// What a command failed of, and what to do, on stderr.
void print_error(const Error& error);

// Understands a whole command line, argv[0] included. --help and --version are commands like any
// other. Errors of kind Usage say which word is not understood and what was probably meant.
Result<Command> parse_command_line(const std::vector<std::string>& words);

}  // namespace vmm
