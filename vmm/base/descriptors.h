// Descriptors that are made in pairs, and those that a poll() loop can serve without ever being
// held up by one of them.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

// All that is made here is closed on exec. Errors of kind Lab.
struct Pipe {
  Fd read;
  Fd write;
};
Result<Pipe> make_pipe();

struct SocketEnds {
  Fd ours;
  Fd theirs;
};
// Two connected Unix sockets of `type`: SOCK_STREAM or SOCK_SEQPACKET, with SOCK_NONBLOCK for both.
Result<SocketEnds> make_socket_pair(int type);

// A file without a path that goes with its last descriptor; `name` is for /proc and for errors.
Result<Fd> memory_file(const char* name, std::span<const std::uint8_t> bytes = {});

// How the bytes of a stream leave through a descriptor.
enum class SinkKind {
  Plain,     // write() returns at once: it is non-blocking, or a regular file
  Socket,    // send() with MSG_DONTWAIT; its end is a shutdown
  Careful,   // blocking and not ours to change: a little at a time, after poll() has said so
  Terminal,  // the master of a pseudo-terminal: its end is a Ctrl-D
};

struct Endpoint {
  Fd fd;
  SinkKind kind = SinkKind::Plain;
};

// A duplicate of `fd`, one of the three standard descriptors, for a poll() loop. Pipes and
// terminals are opened anew where that works, so that O_NONBLOCK touches nobody else who has them.
Result<Endpoint> borrow_descriptor(int fd, bool for_writing);
// A duplicate with close-on-exec.
Result<Fd> duplicate(int fd);
Result<void> set_nonblocking(int fd);

// One read() or write(): how many bytes, or -errno. EAGAIN may come from both.
long read_some(const Fd& fd, std::span<std::uint8_t> room);
long write_some(const Endpoint& sink, std::span<const std::uint8_t> bytes);

// Makes room for a socket: one at `path` that nobody listens on any more, as a killed program
// leaves it, is removed. What else stands there, in words; nothing where `path` is free.
std::optional<std::string_view> clear_socket_path(const std::string& path);
// Unix sockets at paths of any length. Errors are of kind Usage and name the path.
Result<Fd> listen_unix(const std::string& path);   // non-blocking, only for this user
Result<Fd> connect_unix(const std::string& path);  // non-blocking once connected

// While it lives, writing to a closed pipe is an error of this thread and not its end.
class SigpipeGuard {
 public:
  SigpipeGuard();
  ~SigpipeGuard();
  SigpipeGuard(const SigpipeGuard&) = delete;
  SigpipeGuard& operator=(const SigpipeGuard&) = delete;

 private:
  sigset_t before_{};
  bool pending_before_ = false;
};

}  // namespace vmm
