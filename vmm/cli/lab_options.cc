#include "vmm/cli/lab_options.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/lab/backends.h"
#include "vmm/lab/self_image.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

constexpr double kMaxWatchdog = 1e6;
constexpr unsigned kMaxCpus = 8;

// Options that are not for the command inside, and whether a value follows.
struct OuterOption {
  std::string_view name;
  bool has_value;
};
constexpr OuterOption kOuterOptions[] = {
    {"--on", true},      {"--lab-smp", true},      {"--lab-mem", true},     {"--lab-cpu", true},
    {"--icount", false}, {"--lab-kernel", true},   {"--lab-modules", true}, {"--kvm-param", true},
    {"--lab-log", true}, {"--lab-watchdog", true}, {"--lab-fresh", false}};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What a program inside may want to know of its surroundings. The rest of the environment is the
// host's business.
std::vector<std::string> lab_environment(const std::vector<std::string>& command_line) {
  std::vector<std::string> environment;
  for (const char* name : {"TERM", "LANG", "LC_ALL", "TZ", "VMM_FAULT"})
    if (const char* value = std::getenv(name))
      environment.push_back(fmt::format("{}={}", name, value));
  environment.push_back(
      "VMM_COMMAND_LINE=" +
      nlohmann::json(command_line).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  return environment;
}

}  // namespace

void add_lab_options(CLI::App& app, LabOptions& o) {
  const char* group = "Lab";
  app.add_option("--lab-smp", o.cpus, "processors of the lab (default 1)")
      ->check(CLI::Range(1U, kMaxCpus))
      ->group(group);
  app.add_option("--lab-mem", o.memory, "memory of the lab (default: svm 2G, vmx 1G)")
      ->group(group);
  app.add_option("--lab-cpu", o.cpu,
                 "QEMU's -cpu (default max,+svm,+npt) or Bochs' cpu model (corei7_skylake_x)")
      ->group(group);
  app.add_flag("--icount", o.icount, "svm: the lab's clock counts instructions")->group(group);
  app.add_option("--lab-kernel", o.kernel,
                 "the lab's kernel, a bzImage (default: Debian's cloud kernel)")
      ->group(group);
  app.add_option("--lab-modules", o.modules, "its /lib/modules/RELEASE")->group(group);
  app.add_option("--kvm-param", o.kvm_params,
                 "NAME=VALUE for kvm_amd or kvm_intel in the lab, kvm.NAME=VALUE for kvm")
      ->type_size(1)
      ->allow_extra_args(false)
      ->group(group);
  app.add_flag("--lab-fresh", o.fresh, "svm: boot, and leave saved states alone")->group(group);
  app.add_option("--lab-log", o.log_dir,
                 "keep console, emulator log and configuration in this directory")
      ->group(group);
  app.add_option("--lab-watchdog", o.watchdog,
                 "seconds of silence after which the lab has failed (default 120)")
      ->check(CLI::Range(1.0, kMaxWatchdog))
      ->group(group);
}

Result<LabSpec> make_lab_spec(const LabOptions& o, LabBackend backend) {
  LabSpec spec;
  spec.backend = backend;
  spec.cpus = o.cpus;
  spec.memory = o.memory.empty() ? default_lab_memory(backend)
                                 : VMM_TRY_CONTEXT(parse_size(o.memory), "--lab-mem");
  constexpr std::uint64_t kLeast = 512_MiB;
  if (spec.memory < kLeast)
    return fail(Error::usage(fmt::format("--lab-mem {}: a lab needs 512 MiB", o.memory)));
  spec.cpu = o.cpu;
  spec.icount = o.icount;
  spec.kernel = o.kernel;
  spec.modules = o.modules;
  spec.kvm_params = o.kvm_params;
  spec.fresh = o.fresh;
  spec.log_dir = o.log_dir;
  return spec;
}

std::chrono::seconds watchdog_of(const LabOptions& options) {
  return std::chrono::seconds(static_cast<long>(options.watchdog));
}

std::vector<std::string> without_lab_options(const std::vector<std::string>& command_line) {
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < command_line.size(); ++i) {
    const std::string& word = command_line[i];
    if (word == "--") {
      kept.insert(kept.end(), command_line.begin() + static_cast<std::ptrdiff_t>(i),
                  command_line.end());
      break;
    }
    const std::string_view name = std::string_view(word).substr(0, word.find('='));
    const auto* outer = std::find_if(std::begin(kOuterOptions), std::end(kOuterOptions),
                                     [&](const OuterOption& o) { return o.name == name; });
    if (outer == std::end(kOuterOptions))
      kept.push_back(word);
    else if (outer->has_value && name.size() == word.size())
      ++i;
  }
  return kept;
}

Result<SignalWatch> SignalWatch::start() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0)
    return fail(Error::system(ErrorKind::Internal, "sigprocmask", errno));
  Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail(Error::system(ErrorKind::Internal, "signalfd", errno));
  return SignalWatch(std::move(fd));
}

std::optional<int> SignalWatch::taken() const {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

Result<LabCommand> make_lab_command(const Command& command,
                                    const std::vector<std::string>& arguments,
                                    const std::vector<std::string>& command_line) {
  if (!command.paths)
    return fail(
        Error::usage("this command has no place in a lab").hint("run, host, cpu and explain have"));
  LabCommand lab;
  std::error_code code;
  const std::filesystem::path directory = std::filesystem::current_path(code);
  if (code) return fail(Error::system(ErrorKind::Usage, "the working directory", code.value()));
  lab.directory = directory.string();
  for (PathUse& use : VMM_TRY(command.paths())) {
    use.path = (directory / use.path).lexically_normal().string();
    lab.paths.push_back(std::move(use));
  }
  const SelfImage self = VMM_TRY(self_image());
  for (const std::string& file : self.files)
    lab.paths.push_back({.kind = PathUse::Kind::Input, .path = file});
  lab.argv = {self.program};
  lab.argv.insert(lab.argv.end(), arguments.begin(), arguments.end());
  lab.environment = lab_environment(command_line);
  return lab;
}

Result<int> run_with_streams(
    LabCommand command, const SignalWatch& signals,
    const std::function<Result<LabExit>(const LabCommand&, const LabStreams&)>& execute) {
  command.terminal = is_foreground_terminal(STDIN_FILENO) && ::isatty(STDOUT_FILENO) == 1;
  if (command.terminal) VMM_TRY(enter_raw_mode(STDIN_FILENO));
  const auto ended =
      execute(command, {.in = STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO});
  restore_terminal();
  // Whatever came of it, the user wanted it to end.
  if (const auto signal = signals.taken()) return 128 + *signal;
  const LabExit exit = VMM_TRY(ended);
  return exit.signal ? 128 + *exit.signal : exit.code.value_or(0);
}

Result<int> run_in_new_lab(const LabSpec& spec, std::chrono::seconds watchdog, LabCommand command,
                           bool quiet) {
  const SignalWatch signals = VMM_TRY(SignalWatch::start());
  const auto start = std::chrono::steady_clock::now();
  auto lab = Lab::boot(spec, {.patience = watchdog, .cancel = signals.fd()});
  if (!lab) {
    if (const auto signal = signals.taken()) return 128 + *signal;
    return fail(std::move(lab).error());
  }
  if (!quiet)
    fmt::print(stderr, "vmm: lab {}: {}, up after {:.1f} s\n", backend_name(spec.backend),
               (*lab)->description(), seconds_since(start));
  return run_with_streams(std::move(command), signals,
                          [&](const LabCommand& what, const LabStreams& streams) {
                            return (*lab)->execute(what, streams, signals.fd());
                          });
}

}  // namespace vmm
