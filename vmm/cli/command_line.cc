// From words to a command: main()'s own, and those behind the -- of `vmm lab`.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/text.h"
#include "vmm/cli/commands.h"

namespace vmm {
namespace {

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

Error usage_error(const CLI::App& app, const CLI::ParseError& parse_error) {
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
  return error;
}

Command print_text(std::string text) {
  Command command;
  command.run = [text = std::move(text)]() -> Result<int> {
    fmt::print("{}", text);
    return 0;
  };
  return command;
}

}  // namespace

void print_error(const Error& error) {
  fmt::print(stderr, "vmm: error: {}\n", error.text());
  if (!error.hint_text().empty()) fmt::print(stderr, "hint: {}\n", error.hint_text());
}

Result<Command> parse_command_line(const std::vector<std::string>& command_line) {
  std::vector<std::string> words = command_line;
  const bool bisects = words.size() > 2 && words[1] == "cpu" && words[2] == "bisect";
  if (bisects || (words.size() > 1 && words[1] == "lab"))
    words.erase(std::find(words.begin(), words.end(), "--"), words.end());
  CLI::App app{"vmm: runs kernels and hypervisors on /dev/kvm under an explicit CPU model"};
  app.name("vmm");
  app.set_version_flag("--version", "vmm " VMM_VERSION);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "the help of every command");
  Command chosen;
  add_run_command(app, chosen, command_line);
  add_host_command(app, chosen);
  add_cpu_command(app, chosen, command_line);
  add_matrix_command(app, chosen);
  add_explain_command(app, chosen);
  add_vmcs_command(app, chosen);
  add_ctl_command(app, chosen);
  add_lab_command(app, chosen, command_line);
  try {
    // CLI11 takes the words without the program's name, the last one first.
    app.parse(std::vector<std::string>(words.rbegin(), words.rend() - (words.empty() ? 0 : 1)));
  } catch (const CLI::CallForHelp&) {
    return print_text(app.help());
  } catch (const CLI::CallForAllHelp&) {
    return print_text(app.help("", CLI::AppFormatMode::All));
  } catch (const CLI::CallForVersion& version) {
    return print_text(std::string(version.what()) + "\n");
  } catch (const CLI::ParseError& error) {
    return fail(usage_error(app, error));
  }
  return chosen;
}

}  // namespace vmm
