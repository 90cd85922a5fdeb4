// The command line: one subcommand a file, errors printed once, here.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "vmm/base/fault.h"
#include "vmm/base/log.h"
#include "vmm/cli/commands.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

int report(const Error& error) {
  restore_terminal();
  print_error(error);
  return exit_code(error.kind());
}

// A file that took a closed standard descriptor's number would get what is meant for the terminal.
void fill_standard_descriptors() {
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) fd = ::open("/dev/null", O_RDWR);
  if (fd > STDERR_FILENO) ::close(fd);
}

int run(int argc, char** argv) {
  fill_standard_descriptors();
  init_log();
  if (const char* faults = std::getenv("VMM_FAULT")) {
    auto plan = parse_faults(faults);
    if (!plan) return report(std::move(plan).error().context("VMM_FAULT"));
    set_faults(std::move(*plan));
  }
  const auto command = parse_command_line({argv, argv + argc});
  if (!command) return report(command.error());
  const Result<int> result = command->run();
  return result ? *result : report(result.error());
}

}  // namespace
}  // namespace vmm

#ifdef VMM_ASAN
// The leak check at exit wants to stop the process from a thread of its own with ptrace, which the
// seccomp filters of a run forbid: it would wait for ever.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }  // NOLINT
#endif

int main(int argc, char** argv) {
  try {
    return vmm::run(argc, argv);
  } catch (const std::exception& e) {
    vmm::restore_terminal();
    fmt::print(stderr, "vmm: error: {}: this is a fault of vmm's\n", e.what());
    return 70;
  }
}
