// The commands of `vmm`, one file each.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// Runs the command that was chosen and returns its exit code; an Error is printed by main().
using CommandRun = std::function<Result<int>()>;

// Each adds its subcommand with its options to `app` and sets `chosen` when the user picked it. The
// options live in a shared state that the function owns.
// `command_line` is argv, for the outcome.
void add_run_command(CLI::App& app, CommandRun& chosen, std::vector<std::string> command_line);
void add_host_command(CLI::App& app, CommandRun& chosen);
void add_cpu_command(CLI::App& app, CommandRun& chosen);
void add_explain_command(CLI::App& app, CommandRun& chosen);

}  // namespace vmm
