#include "vmm/machine/console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/text.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

constexpr std::uint8_t kCtrlA = 1;

Result<Fd> open_pty() {
  Fd fd(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  if (!fd || grantpt(fd.get()) != 0 || unlockpt(fd.get()) != 0)
    return fail(Error::system(ErrorKind::Usage, "--serial pty", errno));
  char name[128];
  if (ptsname_r(fd.get(), name, sizeof name) != 0)
    return fail(Error::system(ErrorKind::Usage, "--serial pty", errno));
  fmt::print(stderr, "vmm: the serial console is {}\n", name);
  return fd;
}

}  // namespace

Result<std::unique_ptr<Console>> Console::open(const SerialTarget& target,
                                               const std::function<void()>& wake) {
  std::unique_ptr<Console> console(new Console(wake));
  switch (target.kind) {
    case SerialKind::Null:
      break;
    case SerialKind::Stdio:
      console->out_ = STDOUT_FILENO;
      if (isatty(STDOUT_FILENO) == 1) {
        console->owned_ = open_for_output(STDOUT_FILENO);
        console->out_ = console->owned_.get();
        console->chunk_ = kTerminalChunk;
      }
      // A terminal that another process group has would stop us for reading.
      if (isatty(STDIN_FILENO) == 0)
        console->in_ = fcntl(STDIN_FILENO, F_GETFD) >= 0 ? STDIN_FILENO : -1;
      else if (is_foreground_terminal(STDIN_FILENO)) {
        VMM_TRY(enter_raw_mode(STDIN_FILENO));
        console->in_ = STDIN_FILENO;
        console->interactive_ = true;
      }
      break;
    case SerialKind::File:
      console->owned_ = VMM_TRY_CONTEXT(
          Fd::open(target.path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK), "--serial file");
      console->out_ = console->owned_.get();
      break;
    case SerialKind::Pty:
      console->owned_ = VMM_TRY(open_pty());
      console->in_ = console->out_ = console->owned_.get();
      break;
  }
  return console;
}

void Console::add_poll(std::vector<pollfd>& fds) const {
  if (in_ >= 0 && input_.room() > 0) fds.push_back({in_, POLLIN, 0});
  if (out_ >= 0 && output_.size() > 0) fds.push_back({out_, POLLOUT, 0});
}

bool Console::write_some() {
  std::array<std::uint8_t, kPipeChunk> buffer;
  const auto chunk = std::span(buffer).first(chunk_);
  const std::size_t n = output_.peek(chunk);
  if (n == 0) return false;
  const ssize_t done = ::write(out_, chunk.data(), n);
  if (done < 0) {
    if (errno == EINTR || errno == EAGAIN) return false;
    // The reader is gone or the disk is full: the guest goes on, its output does not.
    out_ = -1;
    return false;
  }
  output_.consume(static_cast<std::size_t>(done));
  return done > 0;
}

Console::Event Console::take_input(std::span<const std::uint8_t> bytes) {
  for (const std::uint8_t byte : bytes) {
    if (interactive_ && prefix_seen_) {
      prefix_seen_ = false;
      if (byte == 'x' || byte == 'X') return Event::Quit;
      if ((byte == 'h' || byte == '?') && takes_output(STDERR_FILENO, 0))
        fmt::print(stderr, "\r\nvmm: Ctrl-A x quits, Ctrl-A Ctrl-A sends Ctrl-A\r\n");
      if (byte != kCtrlA) continue;
    } else if (interactive_ && byte == kCtrlA) {
      prefix_seen_ = true;
      continue;
    }
    input_.put(byte);  // there is room: no more was read than fits
  }
  return Event::Input;
}

Console::Event Console::serve(const std::vector<pollfd>& fds) {
  Event event = Event::None;
  for (const pollfd& fd : fds) {
    if (fd.revents == 0) continue;
    if (fd.fd == out_ && (fd.events & POLLOUT) != 0) {
      // Room in the ring is news for the device as well.
      if (write_some()) event = Event::Input;
    } else if (fd.fd == in_ && (fd.events & POLLIN) != 0) {
      std::array<std::uint8_t, 512> bytes;
      const ssize_t n = ::read(in_, bytes.data(), std::min(bytes.size(), input_.room()));
      if (n > 0) {
        const Event taken = take_input(std::span(bytes).first(static_cast<std::size_t>(n)));
        if (taken == Event::Quit) return taken;
        event = taken;
      } else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EIO)) {
        in_ = -1;  // end of input: the guest just hears nothing more
      }
    }
  }
  return event;
}

void Console::flush(double seconds) {
  while (out_ >= 0 && output_.size() > 0) {
    if (!takes_output(out_, seconds)) {
      if (takes_output(STDERR_FILENO, 0))
        fmt::print(stderr, "vmm: warning: nobody took the last {} bytes of console output\n",
                   output_.size());
      return;
    }
    write_some();
  }
}

}  // namespace vmm
