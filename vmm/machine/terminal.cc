#include "vmm/machine/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace vmm {
namespace {

// Written before the flags are raised and never after, so that a signal handler may read them.
termios saved_mode;
int raw_fd = -1;
Fd screen;
pid_t own_group = -1;
std::atomic<bool> is_raw{false};
std::atomic<bool> has_screen{false};

void on_fatal_signal(int signal) {
  restore_terminal();
  // SA_RESETHAND has put the default back: dying of the same signal keeps its meaning. Not raise(),
  // which asks for the thread's id, a system call that nothing else needs; the first thread's id is
  // the process's, and the default action takes every thread.
  syscall(SYS_tgkill, getpid(), getpid(), signal);
}

void arm_restoring() {
  static const bool armed = [] {
    std::atexit(restore_terminal);
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGQUIT}) {
      struct sigaction old {};
      // A sanitizer's handler prints more than we could; it ends through exit, which restores too.
      if (sigaction(signal, nullptr, &old) != 0 || old.sa_handler != SIG_DFL) continue;
      struct sigaction action {};
      action.sa_handler = on_fatal_signal;
      action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
      sigaction(signal, &action, nullptr);
    }
    return true;
  }();
  (void)armed;
}

}  // namespace

bool is_foreground_terminal(int fd) { return isatty(fd) == 1 && tcgetpgrp(fd) == getpgrp(); }

Result<void> enter_raw_mode(int fd) {
  if (tcgetattr(fd, &saved_mode) != 0)
    return fail(Error::system(ErrorKind::Internal, "tcgetattr of the terminal", errno));
  arm_restoring();
  raw_fd = fd;
  termios raw = saved_mode;
  cfmakeraw(&raw);
  raw.c_oflag |= OPOST;  // the guest's "\n" still starts a new line at its left end
  is_raw = true;
  if (tcsetattr(fd, TCSANOW, &raw) != 0)
    return fail(Error::system(ErrorKind::Internal, "tcsetattr of the terminal", errno));
  return {};
}

int take_screen(int fd) {
  arm_restoring();
  own_group = getpgrp();
  screen = open_for_output(fd);
  has_screen = true;
  return screen.get();
}

void restore_terminal() {
  if (has_screen.exchange(false)) {
    constexpr char kLeave[] = "\x1b[0m\x1b[?25h\x1b[?1049l";
    // Whoever pressed Ctrl-S would be left in the alternate screen. Only in the foreground: the
    // call stops a background process.
    if (tcgetpgrp(screen.get()) == own_group) tcflow(screen.get(), TCOON);
    [[maybe_unused]] const ssize_t written = write(screen.get(), kLeave, sizeof kLeave - 1);
  }
  if (is_raw.exchange(false)) tcsetattr(raw_fd, TCSANOW, &saved_mode);
}

Fd open_for_output(int fd) {
  Fd own(::open(fmt::format("/proc/self/fd/{}", fd).c_str(),
                O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  return own ? std::move(own) : Fd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

std::size_t write_without_waiting(int fd, std::string_view bytes) {
  std::size_t taken = 0;
  while (taken < bytes.size() && takes_output(fd, 0)) {
    const std::string_view chunk = bytes.substr(taken, kTerminalChunk);
    const ssize_t count = ::write(fd, chunk.data(), chunk.size());
    if (count <= 0) break;
    taken += static_cast<std::size_t>(count);
  }
  return taken;
}

bool takes_output(int fd, double seconds) {
  pollfd entry{fd, POLLOUT, 0};
  const auto whole = static_cast<time_t>(seconds);
  const timespec timeout{
      .tv_sec = whole, .tv_nsec = static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
  return ::ppoll(&entry, 1, &timeout, nullptr) > 0;
}

}  // namespace vmm
