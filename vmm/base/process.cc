#include "vmm/base/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "vmm/base/descriptors.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

std::vector<std::string> merged_environment(const std::vector<std::string>& changes) {
  std::vector<std::string> all = changes;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    bool replaced = false;
    for (const std::string& change : changes)
      replaced = replaced || std::string_view(change).substr(0, change.find('=')) == name;
    if (!replaced) all.emplace_back(text);
  }
  return all;
}

// What the child needs, made before fork(): between fork() and execve() of a program that has
// threads only system calls are safe.
struct Launch {
  const char* path = nullptr;
  char* const* argv = nullptr;
  char* const* environment = nullptr;
  const char* directory = nullptr;
  const std::vector<int>* inherit = nullptr;
  int output = -1;
  int error = -1;
  int report = -1;  // receives the errno of what failed
  pid_t parent = 0;
};

[[noreturn]] void give_up(const Launch& launch) {
  const int reason = errno;
  [[maybe_unused]] const ssize_t written = ::write(launch.report, &reason, sizeof reason);
  ::_exit(127);
}

[[noreturn]] void run_child(const Launch& launch) {
  ::setsid();
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) give_up(launch);
  if (::getppid() != launch.parent) ::_exit(127);  // it died before prctl()

  // A handler is reset by execve(), a blocked or ignored signal is not.
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || ::dup2(null, 0) < 0 || ::dup2(launch.output, 1) < 0 ||
      ::dup2(launch.error, 2) < 0)
    give_up(launch);
  if (*launch.directory != '\0' && ::chdir(launch.directory) != 0) give_up(launch);

  constexpr unsigned kCloseOnExec = 1u << 2;  // CLOSE_RANGE_CLOEXEC, Linux 5.11
  // An older kernel leaves descriptors open that were made without O_CLOEXEC; this program makes
  // none such.
  ::syscall(SYS_close_range, 3u, ~0u, kCloseOnExec);
  for (const int fd : *launch.inherit)
    if (::fcntl(fd, F_SETFD, 0) != 0) give_up(launch);
  ::execve(launch.path, launch.argv, launch.environment);
  give_up(launch);
}

std::string signal_name(int number) {
  const char* name = ::sigabbrev_np(number);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", number);
}

}  // namespace

std::optional<std::string> find_program(const std::string& name) {
  const auto executable = [](const std::string& path) {
    std::error_code error;
    return std::filesystem::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != name.npos) return executable(name) ? std::optional(name) : std::nullopt;
  const char* search = std::getenv("PATH");
  for (const std::string_view place : split(search != nullptr ? search : "/usr/bin:/bin", ':')) {
    std::string path = fmt::format("{}/{}", place.empty() ? "." : place, name);
    if (executable(path)) return path;
  }
  return std::nullopt;
}

Result<ChildProcess> ChildProcess::start(const ProcessSpec& spec) {
  const std::string name = std::filesystem::path(spec.argv.at(0)).filename().string();
  const auto program = find_program(spec.argv[0]);
  if (!program)
    return fail(Error::no_lab(fmt::format("{} is not installed", printable(spec.argv[0]))));
  Fd log;
  if (!spec.log.empty()) log = VMM_TRY(Fd::open(spec.log, O_WRONLY | O_CREAT | O_TRUNC));
  Pipe output = VMM_TRY(make_pipe());
  Pipe report = VMM_TRY(make_pipe());

  const std::vector<char*> argv = pointers(spec.argv);
  const std::vector<std::string> environment_texts = merged_environment(spec.environment);
  const std::vector<char*> environment = pointers(environment_texts);
  const Launch launch = {.path = program->c_str(),
                         .argv = argv.data(),
                         .environment = environment.data(),
                         .directory = spec.directory.c_str(),
                         .inherit = &spec.inherit,
                         .output = spec.output >= 0 ? spec.output : output.write.get(),
                         .error = output.write.get(),
                         .report = report.write.get(),
                         .parent = ::getpid()};
  const pid_t pid = ::fork();
  if (pid < 0) return fail(Error::system(ErrorKind::Lab, fmt::format("fork for {}", name), errno));
  if (pid == 0) run_child(launch);
  output.write.reset();
  report.write.reset();

  // Nothing else waits for this process, so its number stays its own until it is reaped here.
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const int pidfd_errno = errno;
  const bool has_pidfd = static_cast<bool>(pidfd);
  ChildProcess child(name, pid, std::move(pidfd),
                     OutputTail(std::move(output.read), std::move(log)));
  if (!has_pidfd) return fail(Error::system(ErrorKind::Lab, "pidfd_open", pidfd_errno));
  int reason = 0;
  ssize_t count = 0;
  do {
    count = ::read(report.read.get(), &reason, sizeof reason);
  } while (count < 0 && errno == EINTR);
  if (count == static_cast<ssize_t>(sizeof reason))
    return fail(
        Error::system(ErrorKind::Lab, fmt::format("execute {}", printable(*program)), reason));
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : name_(std::move(other.name_)),
      pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      output_(std::move(other.output_)),
      status_(other.status_) {}

ChildProcess::~ChildProcess() {
  if (pid_ < 0 || status_) return;
  ::kill(-pid_, SIGKILL);
  ::kill(pid_, SIGKILL);  // should it not have reached setsid()
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

bool ChildProcess::Status::ok() const { return how == CLD_EXITED && value == 0; }

std::optional<ChildProcess::Status> ChildProcess::ended() {
  output_.drain();
  if (status_) return status_;
  siginfo_t info{};
  // WNOWAIT first: what the process left behind in its group is killed while the number is taken.
  const int result = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
  if (result != 0 || info.si_pid == 0) return std::nullopt;
  ::kill(-pid_, SIGKILL);
  while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0 && errno == EINTR) {
  }
  output_.drain();
  status_ = Status{.how = info.si_code, .value = info.si_status};
  return status_;
}

std::optional<std::string> ChildProcess::death() {
  const auto status = ended();
  if (!status) return std::nullopt;
  std::string text =
      status->how == CLD_EXITED
          ? fmt::format("{} (PID {}) exited with {}", name_, pid_, status->value)
          : fmt::format("{} (PID {}) was ended by {}", name_, pid_, signal_name(status->value));
  const std::string lines = output_.tail().last();
  if (!lines.empty()) text += fmt::format("; its last lines: {}", lines);
  return text;
}

// The whole group: an emulator may have helpers.
void ChildProcess::pause() {
  if (!ended()) ::kill(-pid_, SIGSTOP);
}

void ChildProcess::resume() {
  if (!ended()) ::kill(-pid_, SIGCONT);
}

Result<bool> wait_for_cancel(int cancel, std::chrono::milliseconds time) {
  pollfd fd{.fd = cancel, .events = POLLIN, .revents = 0};
  const int count = ::poll(&fd, 1, static_cast<int>(time.count()));
  if (count < 0 && errno != EINTR) return fail(Error::system(ErrorKind::Lab, "poll", errno));
  return count > 0;
}

Result<ToolRun> run_tool(const std::vector<std::string>& argv, const std::string& directory,
                         std::chrono::seconds limit, int cancel) {
  constexpr std::size_t kMaxOutput = 1 << 20;
  Pipe out = VMM_TRY(make_pipe());
  ChildProcess child = VMM_TRY(ChildProcess::start({.argv = argv,
                                                    .environment = {"LC_ALL=C"},
                                                    .directory = directory,
                                                    .inherit = {},
                                                    .output = out.write.get(),
                                                    .log = {}}));
  out.write.reset();
  ToolRun run;
  const auto deadline = std::chrono::steady_clock::now() + limit;
  bool ended = false;
  while (!ended || out.read) {
    if (std::chrono::steady_clock::now() >= deadline)
      return fail(Error::lab(fmt::format("{} did not end within {} s", argv[0], limit.count())));
    // A descriptor of -1 is skipped by poll(). The time limit of 200 ms also covers a grandchild
    // that holds a pipe open after the tool itself has ended.
    std::array<pollfd, 4> fds = {
        {{.fd = out.read.get(), .events = POLLIN, .revents = 0},
         {.fd = child.output().fd(), .events = POLLIN, .revents = 0},
         {.fd = ended ? -1 : child.pidfd().get(), .events = POLLIN, .revents = 0},
         {.fd = cancel, .events = POLLIN, .revents = 0}}};
    if (::poll(fds.data(), fds.size(), 200) < 0 && errno != EINTR)
      return fail(Error::system(ErrorKind::Lab, "poll", errno));
    if (fds[3].revents != 0) return fail(Error::lab(fmt::format("{} was interrupted", argv[0])));
    if (fds[0].revents != 0) {
      std::array<char, 4096> buffer;
      const ssize_t count = ::read(out.read.get(), buffer.data(), buffer.size());
      if (count > 0) run.output.append(buffer.data(), static_cast<std::size_t>(count));
      if (count == 0 || (count < 0 && errno != EINTR)) out.read.reset();
      if (run.output.size() > kMaxOutput)
        return fail(
            Error::lab(fmt::format("{} wrote more than {}", argv[0], format_size(kMaxOutput))));
    } else if (ended) {
      out.read.reset();
    }
    ended = child.ended().has_value();
  }
  run.ok = child.ended()->ok();
  run.death = *child.death();
  return run;
}

}  // namespace vmm
