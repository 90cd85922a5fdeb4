// Unix sockets of the host whose connections go on in the lab.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/link.h"

namespace vmm {

class SocketRelay {
 public:
  struct Path {
    std::string path;    // on the host
    std::string in_lab;  // of the socket in the lab
  };

  explicit SocketRelay(LabLink& link) : link_(link) {}
  // Removes the sockets and ends their connections.
  ~SocketRelay();
  SocketRelay(const SocketRelay&) = delete;
  SocketRelay& operator=(const SocketRelay&) = delete;

  // Makes the socket. Errors of kind Usage: there is something at the path, or it cannot be made.
  Result<void> listen(const Path& path);
  void stop_listening();
  // Those of the connections that are still open.
  std::vector<std::uint32_t> streams() const;

  void want(std::vector<pollfd>& polled) const;
  // Takes a connection that waits.
  Result<void> serve(const std::vector<pollfd>& polled);

 private:
  struct Listener {
    Path path;
    Fd fd;
    dev_t device = 0;
    ino_t inode = 0;
  };
  Result<void> accept(const Listener& listener);

  LabLink& link_;
  std::vector<Listener> listeners_;
  std::vector<std::uint32_t> connections_;
};

}  // namespace vmm
