#include "vmm/base/descriptors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

#include "vmm/base/text.h"

namespace vmm {

namespace {

// Opening the master multiplexer again would make a new terminal.
bool is_terminal_multiplexer(const struct stat& status) {
  return S_ISCHR(status.st_mode) && major(status.st_rdev) == 5 && minor(status.st_rdev) == 2;
}

// A path that fits into sockaddr_un: its folder as a descriptor, for folders of any length.
struct SocketAddress {
  Fd folder;
  sockaddr_un address{};
};

Result<SocketAddress> address_of(const std::string& path) {
  SocketAddress result;
  result.address.sun_family = AF_UNIX;
  std::string text = path;
  if (text.size() >= sizeof result.address.sun_path) {
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == path.npos ? "." : path.substr(0, slash + 1);
    result.folder = VMM_TRY(Fd::open(folder, O_PATH | O_DIRECTORY));
    text = fmt::format("/proc/self/fd/{}/{}", result.folder.get(), path.substr(slash + 1));
  }
  if (text.empty() || text.size() >= sizeof result.address.sun_path)
    return fail(Error::usage(
        path.empty()
            ? std::string("a socket needs a path")
            : fmt::format("{} has {} bytes, and the path of a socket at most {}", printable(path),
                          path.size(), sizeof result.address.sun_path - 1)));
  std::memcpy(result.address.sun_path, text.data(), text.size());
  return result;
}

const sockaddr* generic(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address.address);
}

Result<Fd> unix_socket(int flags) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) return fail(Error::system(ErrorKind::Internal, "socket", errno));
  return fd;
}

}  // namespace

Result<Pipe> make_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return fail(Error::system(ErrorKind::Lab, "make a pipe", errno));
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

Result<SocketEnds> make_socket_pair(int type) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(Error::system(ErrorKind::Lab, "make a pair of sockets", errno));
  return SocketEnds{Fd(ends[0]), Fd(ends[1])};
}

Result<Fd> memory_file(const char* name, std::span<const std::uint8_t> bytes) {
  Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd)
    return fail(
        Error::system(ErrorKind::Lab, fmt::format("make a file in memory ({})", name), errno));
  VMM_TRY(replace_contents(fd, bytes, name));
  return fd;
}

Result<Endpoint> borrow_descriptor(int fd, bool for_writing) {
  struct stat status {};
  if (::fstat(fd, &status) != 0)
    return fail(Error::system(ErrorKind::Usage, fmt::format("stat of descriptor {}", fd), errno));
  const bool reopen =
      S_ISFIFO(status.st_mode) || (S_ISCHR(status.st_mode) && !is_terminal_multiplexer(status));
  if (reopen) {
    const int flags = (for_writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    Fd own(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), flags));
    if (own) return Endpoint{std::move(own), SinkKind::Plain};
  }
  Endpoint endpoint{VMM_TRY(duplicate(fd)), SinkKind::Careful};
  const int flags = ::fcntl(fd, F_GETFL);
  if (S_ISSOCK(status.st_mode))
    endpoint.kind = SinkKind::Socket;
  else if (S_ISREG(status.st_mode) || (flags >= 0 && (flags & O_NONBLOCK) != 0))
    endpoint.kind = SinkKind::Plain;
  return endpoint;
}

Result<Fd> duplicate(int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return fail(Error::system(ErrorKind::Internal, "duplicate a descriptor", errno));
  return copy;
}

Result<void> set_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return fail(Error::system(ErrorKind::Internal, "make a descriptor non-blocking", errno));
  return {};
}

long read_some(const Fd& fd, std::span<std::uint8_t> room) {
  const ssize_t count = ::read(fd.get(), room.data(), room.size());
  return count < 0 ? -errno : count;
}

long write_some(const Endpoint& sink, std::span<const std::uint8_t> bytes) {
  ssize_t count = 0;
  if (sink.kind == SinkKind::Socket) {
    count = ::send(sink.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  } else {
    // What poll() promises of a pipe is room for PIPE_BUF bytes.
    if (sink.kind == SinkKind::Careful)
      bytes = bytes.first(std::min(bytes.size(), std::size_t{PIPE_BUF}));
    count = ::write(sink.fd.get(), bytes.data(), bytes.size());
  }
  return count < 0 ? -errno : count;
}

std::optional<std::string_view> clear_socket_path(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return std::nullopt;
  if (!S_ISSOCK(status.st_mode)) return "a file that is no socket is there";
  const auto address = address_of(path);
  const auto probe = unix_socket(SOCK_NONBLOCK);
  if (!address || !probe ||
      ::connect(probe->get(), generic(*address), sizeof address->address) == 0 ||
      errno != ECONNREFUSED)
    return "another process listens there";
  ::unlink(path.c_str());
  return std::nullopt;
}

Result<Fd> listen_unix(const std::string& path) {
  const SocketAddress address = VMM_TRY(address_of(path));
  Fd fd = VMM_TRY(unix_socket(SOCK_NONBLOCK));
  const std::string what = "make the socket " + printable(path);
  if (const auto there = clear_socket_path(path))
    return fail(
        Error::usage(fmt::format("{}: {}", what, *there)).hint("give another path, or remove it"));
  if (::bind(fd.get(), generic(address), sizeof address.address) != 0)
    return fail(Error::system(ErrorKind::Usage, what, errno));
  // Nobody can connect between bind() and listen().
  if (::chmod(path.c_str(), 0600) != 0 || ::listen(fd.get(), 16) != 0) {
    const int reason = errno;
    ::unlink(path.c_str());
    return fail(
        Error::system(ErrorKind::Usage, fmt::format("listen on {}", printable(path)), reason));
  }
  return fd;
}

Result<Fd> connect_unix(const std::string& path) {
  const SocketAddress address = VMM_TRY(address_of(path));
  Fd fd = VMM_TRY(unix_socket(SOCK_NONBLOCK));
  if (::connect(fd.get(), generic(address), sizeof address.address) != 0)
    return fail(
        Error::system(ErrorKind::Usage, fmt::format("connect to {}", printable(path)), errno));
  return fd;
}

SigpipeGuard::SigpipeGuard() {
  sigset_t pending;
  sigpending(&pending);
  pending_before_ = sigismember(&pending, SIGPIPE) == 1;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, &before_);
}

SigpipeGuard::~SigpipeGuard() {
  if (!pending_before_) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    const timespec at_once{};
    while (sigtimedwait(&set, nullptr, &at_once) < 0 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace vmm
