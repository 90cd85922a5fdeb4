// The sockets of the labs that are up, in a directory that only their user can enter, and the
// messages on them: JSON (keeper_messages.h) with descriptors.
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

// The directory of the sockets, made if it is missing: $XDG_RUNTIME_DIR/vmm-labs, else
// /tmp/vmm-labs-UID. Errors of kind NoLab, also when another user could reach into it.
Result<std::string> lab_socket_directory();

// A lab's name is part of a path: 1 to 32 letters, digits, "-" and "_". A Usage error otherwise.
Result<void> check_lab_name(const std::string& name);

// NAME.sock in that directory.
Result<std::string> lab_socket_path(const std::string& name);
// The names of the sockets in there, in order. Somebody may listen there, or no more.
std::vector<std::string> lab_socket_names();
// Nothing when no keeper listens at `path`.
Result<std::optional<Fd>> connect_to_keeper(const std::string& path);

// A lab's name, taken: the socket at its path listens. The destructor frees the name.
class KeeperSocket {
 public:
  // Replaces what a killed keeper has left behind. A Usage error when somebody listens there.
  static Result<KeeperSocket> listen(const std::string& name);
  ~KeeperSocket() { close(); }
  KeeperSocket(KeeperSocket&& other) noexcept;
  KeeperSocket& operator=(KeeperSocket&&) = delete;

  int fd() const { return fd_.get(); }
  // Takes the socket away, unless another keeper's is there by now, and listens no more.
  void close();
  // Another process has it now: the name stays taken when this object goes.
  void hand_over() { path_.clear(); }

 private:
  KeeperSocket(std::string path, Fd fd, ino_t inode)
      : path_(std::move(path)), fd_(std::move(fd)), inode_(inode) {}

  std::string path_;  // empty: not ours to free
  Fd fd_;
  ino_t inode_;
};

struct KeeperMessage {
  std::string text;
  std::vector<Fd> fds;
};
// A Usage error when `text` is too long, else of kind Lab.
Result<void> send_keeper_message(const Fd& socket, const std::string& text,
                                 std::span<const int> fds = {});
// Waits at most `milliseconds` (-1: for ever) or until `cancel` is readable. Errors of kind Lab.
Result<KeeperMessage> receive_keeper_message(const Fd& socket, int milliseconds, int cancel);

}  // namespace vmm
