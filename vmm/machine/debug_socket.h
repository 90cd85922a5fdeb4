// Where a debugger connects: a unix socket of the user's own, TCP, or standard input and output.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"

namespace vmm {

struct DebugAddress {
  enum class Kind { Unix, Tcp, Stdio };
  Kind kind = Kind::Unix;
  std::string path;        // Unix
  std::uint32_t host = 0;  // Tcp: IPv4, the first byte of the text is the highest
  std::uint16_t port = 0;  // Tcp, host's byte order

  bool operator==(const DebugAddress&) const = default;
};

// "unix:PATH", "tcp:A.B.C.D:PORT" ("localhost" is 127.0.0.1; port 0 takes a free one) or "stdio". A
// usage error for anything else, and without `allow_remote` for an address beyond 127.0.0.0/8:
// whoever reaches the debugger reads and writes the whole guest.
Result<DebugAddress> parse_debug_address(std::string_view text, bool allow_remote);

// "unix:PATH", of --ctl. A usage error for anything else.
Result<DebugAddress> parse_control_address(std::string_view text);

// A socket that listens. The file of a unix one goes with it, unless another is there by now.
class Listener {
 public:
  Listener() = default;
  // `path`: of the file that a unix socket was just bound to, else empty.
  explicit Listener(Fd fd, const std::string& path = {});

  int get() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

 private:
  struct File {
    std::string path;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    ~File();
  };

  Fd fd_;
  // Goes first: while the socket is open its inode's number is nobody else's.
  std::unique_ptr<File> file_;
};

// Listens at a socket, without blocking. A socket file that nobody listens at any more is replaced,
// anything else that is in the way stays and is an error. A unix socket has mode 0600. `option` is
// named in errors.
Result<Listener> listen_at(const DebugAddress& address, std::string_view option = "--gdb");

// As the user of gdb writes it after `target remote`, with the port that was taken.
std::string remote_name(const DebugAddress& address, const Listener& listener);

}  // namespace vmm
