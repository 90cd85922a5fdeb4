// vmm lab: a real kvm_amd or kvm_intel inside an emulator, and vmm's commands in there.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/lab_options.h"
#include "vmm/lab/backends.h"
#include "vmm/lab/keeper.h"

namespace vmm {
namespace {

struct Options {
  LabOptions lab;
  std::string backend;
  std::string name;
  bool quiet = false;
  std::vector<std::string> inner;
  std::vector<std::string> command_line;
};

// The command behind --, as it is understood here and as it runs in the lab.
struct InnerCommand {
  Command understood;
  LabCommand lab;

  // A lab's failure is an outcome of the command as well.
  Result<int> recorded(Result<int> result) const {
    if (!result && understood.record_failure) understood.record_failure(result.error());
    return result;
  }
};

// "-- run kernel.elf", understood as the command line of a vmm.
Result<InnerCommand> inner_command(const Options& o, const char* verb) {
  if (o.inner.empty())
    return fail(Error::usage(fmt::format("vmm lab {}: the command is missing", verb))
                    .hint(fmt::format("vmm lab {} ... -- run KERNEL", verb)));
  std::vector<std::string> words = {"vmm"};
  // A pasted command line may begin with the program's name.
  words.insert(words.end(), o.inner.begin() + (o.inner.front() == "vmm" ? 1 : 0), o.inner.end());
  InnerCommand command;
  command.understood = VMM_TRY_CONTEXT(parse_command_line(words), "the command for the lab");
  command.lab = VMM_TRY(
      make_lab_command(command.understood, {words.begin() + 1, words.end()}, o.command_line));
  return command;
}

// A lab that got no name is called after its backend.
std::string name_of(const Options& o) { return !o.name.empty() ? o.name : lower(o.backend); }

Result<int> run_lab(const Options& o) {
  const LabBackend backend = VMM_TRY(parse_backend(o.backend));
  const LabSpec spec = VMM_TRY(make_lab_spec(o.lab, backend));
  const InnerCommand command = VMM_TRY(inner_command(o, "run"));
  return command.recorded(run_in_new_lab(spec, watchdog_of(o.lab), command.lab, o.quiet));
}

Result<int> start(const Options& o) {
  const LabBackend backend = VMM_TRY(parse_backend(o.backend));
  const LabSpec spec = VMM_TRY(make_lab_spec(o.lab, backend));
  const SignalWatch signals = VMM_TRY(SignalWatch::start());
  const auto description = start_lab(name_of(o), spec, watchdog_of(o.lab), signals.fd());
  if (const auto signal = signals.taken()) return 128 + *signal;
  const std::string text = VMM_TRY(description);
  if (!o.quiet) {
    fmt::print(stderr, "vmm: lab {}: {}, up\n", name_of(o), text);
    fmt::print(stderr, "hint: vmm lab exec --name {0} -- COMMAND, vmm lab stop --name {0}\n",
               name_of(o));
  }
  return 0;
}

// The only lab that is up needs no name.
Result<std::string> chosen_lab(const Options& o) {
  if (!o.name.empty() || !o.backend.empty()) return name_of(o);
  const std::vector<RunningLab> labs = running_labs();
  if (labs.size() == 1) return labs.front().name;
  if (labs.empty())
    return fail(Error::no_lab("no lab is up").hint("vmm lab start --backend svm|vmx boots one"));
  std::vector<std::string> names;
  for (const RunningLab& lab : labs) names.push_back(lab.name);
  return fail(Error::usage(fmt::format("several labs are up: {}", fmt::join(names, ", ")))
                  .hint("say which with --name"));
}

Result<int> execute(const Options& o) {
  const InnerCommand command = VMM_TRY(inner_command(o, "exec"));
  const std::string name = VMM_TRY(chosen_lab(o));
  const SignalWatch signals = VMM_TRY(SignalWatch::start());
  return command.recorded(run_with_streams(
      command.lab, signals, [&](const LabCommand& what, const LabStreams& streams) {
        return execute_in_lab(name, what, streams, signals.fd());
      }));
}

Result<int> stop(const Options& o) {
  const std::string name = VMM_TRY(chosen_lab(o));
  VMM_TRY(stop_lab(name));
  if (!o.quiet) fmt::print(stderr, "vmm: lab {} is down\n", name);
  return 0;
}

Result<int> list() {
  fmt::print("{}", backend_list());
  for (const RunningLab& lab : running_labs())
    fmt::print("up: {:<12} {}{}\n", lab.name, lab.state,
               lab.description.empty() ? "" : ", " + lab.description);
  return 0;
}

}  // namespace

void add_lab_command(CLI::App& app, Command& chosen, std::vector<std::string> command_line) {
  CLI::App* lab = app.add_subcommand(
      "lab", "run vmm's commands under a real kvm_amd or kvm_intel inside an emulator");
  lab->require_subcommand(1);
  auto options = std::make_shared<Options>();
  const auto dashes = std::find(command_line.begin(), command_line.end(), "--");
  if (dashes != command_line.end()) options->inner.assign(dashes + 1, command_line.end());
  options->command_line = std::move(command_line);

  const char* const backends = "svm (kvm_amd in QEMU) or vmx (kvm_intel in Bochs)";
  const auto add = [&](const char* verb, const char* help,
                       Result<int> (*function)(const Options&)) {
    CLI::App* command = lab->add_subcommand(verb, help);
    command->callback([options, &chosen, function] {
      chosen.run = [options, function] { return function(*options); };
    });
    return command;
  };
  CLI::App* run = add("run", "boot a lab, run the command behind -- in it, end the lab", run_lab);
  CLI::App* start_command = add("start", "boot a lab and keep it for `vmm lab exec`", start);
  CLI::App* exec = add("exec", "run the command behind -- in a lab that is up", execute);
  CLI::App* stop_command = add("stop", "end a lab that is up", stop);
  for (CLI::App* command : {run, start_command}) {
    command->add_option("--backend", options->backend, backends)->required();
    add_lab_options(*command, options->lab);
  }
  const char* const name = "of the lab (default: its backend's name)";
  start_command->add_option("--name", options->name, name);
  for (CLI::App* command : {exec, stop_command}) {
    command->add_option("--name", options->name, name);
    command->add_option("--backend", options->backend, "the lab with its backend's name");
  }
  for (CLI::App* command : {run, start_command, stop_command})
    command->add_flag("-q,--quiet", options->quiet, "no lines about the lab");
  for (CLI::App* command : {run, exec})
    command->footer("-- COMMAND...   a command line of vmm: run, host, cpu or explain");

  CLI::App* list_command =
      lab->add_subcommand("list", "which backends can be used here, and which labs are up");
  list_command->callback([&chosen] { chosen.run = list; });
}

}  // namespace vmm
