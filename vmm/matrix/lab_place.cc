#include "vmm/matrix/lab_place.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "vmm/base/descriptors.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

constexpr unsigned kTries = 2;
constexpr std::size_t kMaxNames = 64;
constexpr std::size_t kMaxName = 40;

// The guard's side. Between fork() and its end it does nothing but system calls on what was made
// before: the process that it came from may be gone, and its heap is a copy that nobody grows.
class GuardLoop {
 public:
  [[noreturn]] void run(int pipe) {
    char byte = 0;
    ssize_t count = 0;
    while ((count = ::read(pipe, &byte, 1)) == 1 || (count < 0 && errno == EINTR)) {
      if (count < 0) continue;
      if (byte != '\n') {
        if (length_ + 1 < kMaxName) line_[length_++] = byte;
        continue;
      }
      line_[length_] = '\0';
      if (length_ > 1) obey(line_[0], line_ + 1);
      length_ = 0;
    }
    for (auto& name : names_)
      if (name[0] != '\0') stop(name, kPatience);
    ::_exit(0);
  }

 private:
  // A lab whose start was cut short may come up yet: that is how often one looks, a second apart.
  static constexpr int kPatience = 30;

  void obey(char what, const char* name) {
    if (what == '+') {
      for (auto& slot : names_)
        if (slot[0] == '\0') {
          std::strncpy(slot, name, kMaxName - 1);
          return;
        }
      return;
    }
    for (auto& slot : names_)
      if (std::strcmp(slot, name) == 0) {
        stop(slot, 1);
        slot[0] = '\0';
      }
  }

  void stop(const char* name, int tries) {
    for (int i = 0; i < tries; ++i) {
      if (i > 0) ::sleep(1);
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::execl("/proc/self/exe", "vmm", "lab", "stop", "-q", "--name", name, nullptr);
        ::_exit(127);
      }
      int status = 0;
      while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
      }
      if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    }
  }

  char names_[kMaxNames][kMaxName] = {};
  char line_[kMaxName] = {};
  std::size_t length_ = 0;
};

}  // namespace

Result<void> LabGuard::start() {
  Pipe pipe = VMM_TRY(make_pipe());
  auto loop = std::make_unique<GuardLoop>();
  const pid_t pid = ::fork();
  if (pid < 0) return fail(Error::system(ErrorKind::Internal, "fork of the labs' guard", errno));
  if (pid == 0) {
    // Out of reach of the terminal's Ctrl-C, and holding nothing of the run's.
    ::setsid();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const int null = ::open("/dev/null", O_RDWR);
    const int kept = ::dup2(pipe.read.get(), 3);
    for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
    ::close_range(4, ~0u, 0);
    loop->run(kept);
  }
  pid_ = pid;
  pipe_ = std::move(pipe.write);
  return {};
}

LabGuard::~LabGuard() {
  pipe_.reset();
  if (pid_ < 0) return;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

void LabGuard::say(char what, const std::string& name) {
  const std::string line = fmt::format("{}{}\n", what, name);
  // The pipe holds all of it at once, and a guard that is gone has nothing left to stop.
  const SigpipeGuard quiet;
  (void)!::write(pipe_.get(), line.data(), line.size());
}

Result<void> LabGuard::watch(const std::string& name) {
  if (!pipe_) VMM_TRY(start());
  say('+', name);
  return {};
}

void LabGuard::stop(const std::string& name) {
  if (pipe_) say('-', name);
}

std::string LabPlace::text() const {
  return parameters_.empty() ? on_ : fmt::format("{}, {}", on_, parameters_);
}

Result<void> LabPlace::start(LabGuard& guard) {
  static unsigned counter = 0;
  name_ = fmt::format("matrix-{}-{}", ::getpid(), ++counter);
  ++tries_;
  VMM_TRY(guard.watch(name_));
  ProcessSpec process;
  process.argv = {"/proc/self/exe", "lab", "start", "-q", "--backend", on_, "--name", name_};
  if (!parameters_.empty())
    for (const std::string_view parameter : split(parameters_, ',')) {
      process.argv.emplace_back("--kvm-param");
      process.argv.emplace_back(parameter);
    }
  starter_ = std::make_unique<ChildProcess>(VMM_TRY(ChildProcess::start(process)));
  state_ = State::Starting;
  return {};
}

bool LabPlace::step() {
  if (state_ != State::Starting) return false;
  starter_->output().drain();
  const auto status = starter_->ended();
  if (!status) return false;
  if (status->ok()) {
    state_ = State::Up;
  } else {
    constexpr int kNotInstalled = 76;
    failure_code_ = status->how == CLD_EXITED ? status->value : 75;
    failure_ =
        fmt::format("the lab ({}) did not start: {}", text(), starter_->output().tail().last(3));
    state_ = failure_code_ != kNotInstalled && tries_ < kTries ? State::Down : State::Failed;
  }
  starter_.reset();
  return true;
}

void LabPlace::stop(LabGuard& guard) {
  if (state_ != State::Up) return;
  guard.stop(name_);
  state_ = State::Down;
}

}  // namespace vmm
