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
#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

int report(const Error& error) {
  restore_terminal();
  fmt::print(stderr, "vmm: error: {}\n", error.text());
  if (!error.hint_text().empty()) fmt::print(stderr, "hint: {}\n", error.hint_text());
  return exit_code(error.kind());
}

// The option that the user probably meant by an unknown word.
std::string nearest_option(const CLI::App& app, const std::string& word) {
  const CLI::App* scope = &app;
  for (const CLI::App* chosen : app.get_subcommands()) scope = chosen;
  std::vector<std::string> names;
  if (word.starts_with("-"))
    for (const CLI::Option* option : scope->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  else
    for (const CLI::App* command : scope->get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(command->get_name());
  const std::string head(split(word, '=').front());
  return nearest_name(head, names).value_or("");
}

int report_usage(const CLI::App& app, const CLI::ParseError& parse_error) {
  Error error = Error::usage(parse_error.what());
  // A mistyped command is a word too many for CLI11 and, first of all, a command that is missing.
  if (dynamic_cast<const CLI::ExtrasError*>(&parse_error) != nullptr ||
      dynamic_cast<const CLI::RequiredError*>(&parse_error) != nullptr) {
    const auto extras = app.remaining(true);
    if (!extras.empty()) {
      const std::string nearest = nearest_option(app, extras.front());
      error = Error::usage(fmt::format("'{}' is not understood", printable(extras.front())));
      if (!nearest.empty()) error = std::move(error).hint(fmt::format("did you mean {}?", nearest));
    }
  }
  if (error.hint_text().empty()) error = std::move(error).hint("vmm --help lists what there is");
  return report(error);
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
  CLI::App app{"vmm: runs kernels and hypervisors on /dev/kvm under an explicit CPU model"};
  app.name("vmm");
  app.set_version_flag("--version", "vmm " VMM_VERSION);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "the help of every command");
  CommandRun chosen;
  add_run_command(app, chosen, {argv, argv + argc});
  add_host_command(app, chosen);
  add_cpu_command(app, chosen);
  add_explain_command(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto commands = app.get_subcommands();
    fmt::print("{}", (commands.empty() ? &app : commands.back())->help());
    return 0;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error);
  }
  const Result<int> result = chosen();
  return result ? *result : report(result.error());
}

}  // namespace
}  // namespace vmm

#ifdef __SANITIZE_ADDRESS__
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
