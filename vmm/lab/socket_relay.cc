#include "vmm/lab/socket_relay.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/base/descriptors.h"
#include "vmm/base/text.h"

namespace vmm {

namespace {

constexpr std::size_t kMaxConnections = 16;  // further ones wait until one of them ends

}  // namespace

SocketRelay::~SocketRelay() {
  stop_listening();
  for (const std::uint32_t stream : connections_) link_.channel().reset(stream);
}

Result<void> SocketRelay::listen(const Path& path) {
  // Not within the braces: what stands there already is never destroyed when VMM_TRY returns.
  Fd socket = VMM_TRY(listen_unix(path.path));
  struct stat status {};
  if (::lstat(path.path.c_str(), &status) != 0)
    return fail(
        Error::system(ErrorKind::Usage, "look at the socket " + printable(path.path), errno));
  listeners_.push_back({path, std::move(socket), status.st_dev, status.st_ino});
  return {};
}

void SocketRelay::stop_listening() {
  for (const Listener& listener : std::exchange(listeners_, {})) {
    struct stat status {};
    // Another file may be there by now.
    if (::lstat(listener.path.path.c_str(), &status) == 0 && status.st_dev == listener.device &&
        status.st_ino == listener.inode)
      ::unlink(listener.path.path.c_str());
  }
}

std::vector<std::uint32_t> SocketRelay::streams() const {
  std::vector<std::uint32_t> open;
  for (const std::uint32_t stream : connections_)
    if (link_.channel().is_open(stream)) open.push_back(stream);
  return open;
}

void SocketRelay::want(std::vector<pollfd>& polled) const {
  // Before the command runs there is nobody to connect to; the kernel keeps them waiting.
  if (!link_.running() || streams().size() >= kMaxConnections) return;
  for (const Listener& listener : listeners_) polled.push_back({listener.fd.get(), POLLIN, 0});
}

Result<void> SocketRelay::serve(const std::vector<pollfd>& polled) {
  if (!link_.running()) return {};
  for (const Listener& listener : listeners_)
    for (const pollfd& entry : polled)
      if (entry.fd == listener.fd.get() && entry.revents != 0 && streams().size() < kMaxConnections)
        VMM_TRY(accept(listener));
  return {};
}

Result<void> SocketRelay::accept(const Listener& listener) {
  Fd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return {};  // gone again, or no descriptors left: it stays in the queue
  StreamSpec spec;
  spec.sink = {VMM_TRY(duplicate(fd.get())), SinkKind::Socket};
  spec.source = std::move(fd);
  connections_ = streams();
  connections_.push_back(link_.new_stream());
  link_.tell(ConnectSocket{listener.path.in_lab, connections_.back()});
  link_.channel().open(connections_.back(), std::move(spec));
  return {};
}

}  // namespace vmm
