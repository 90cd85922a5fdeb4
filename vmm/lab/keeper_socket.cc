#include "vmm/lab/keeper_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/lab/keeper_messages.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxName = 32;
constexpr std::size_t kMaxDescriptors = 3;
constexpr std::string_view kSuffix = ".sock";

struct Address {
  sockaddr_un raw{};
  socklen_t size = sizeof(sockaddr_un);
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&raw); }
};

Result<Address> address_of(const std::string& path) {
  Address address;
  address.raw.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.raw.sun_path)
    return fail(Error::no_lab(fmt::format("the socket's path {} is longer than {} bytes", path,
                                          sizeof address.raw.sun_path - 1))
                    .hint("set XDG_RUNTIME_DIR to a shorter directory"));
  std::copy(path.begin(), path.end(), address.raw.sun_path);
  return address;
}

Result<Fd> packet_socket() {
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Error::system(ErrorKind::Lab, "socket", errno));
  return socket;
}

// Whoever takes or frees a name in a directory holds this meanwhile: of two who find a stale socket
// the second would otherwise remove the first one's new one. Ends with the descriptor.
Result<Fd> lock_directory_of(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path().native();
  Fd fd = VMM_TRY(Fd::open(directory, O_RDONLY | O_DIRECTORY, ErrorKind::Lab));
  while (::flock(fd.get(), LOCK_EX) != 0)
    if (errno != EINTR)
      return fail(Error::system(ErrorKind::Lab, fmt::format("lock {}", directory), errno));
  return fd;
}

// Room for the descriptors of a message.
struct Control {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptors * sizeof(int))> bytes{};
};

Error keeper_gone() {
  return Error::lab("the lab's keeper has ended").hint("vmm lab list shows what is up");
}

}  // namespace

Result<std::string> lab_socket_directory() {
  std::string directory;
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime == '/')
    directory = std::string(runtime) + "/vmm-labs";
  else
    directory = fmt::format("/tmp/vmm-labs-{}", ::geteuid());
  struct stat status {};
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(Error::system(ErrorKind::NoLab, fmt::format("mkdir {}", directory), errno));
  if (::lstat(directory.c_str(), &status) != 0)
    return fail(Error::system(ErrorKind::NoLab, directory, errno));
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 077) != 0)
    return fail(Error::no_lab(fmt::format("{} is not a directory of this user's alone", directory))
                    .hint("remove it, or set XDG_RUNTIME_DIR"));
  return directory;
}

Result<void> check_lab_name(const std::string& name) {
  const bool plain =
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") ==
      name.npos;
  if (name.empty() || name.size() > kMaxName || !plain)
    return fail(Error::usage(fmt::format("a lab cannot be called '{}'", printable(name)))
                    .hint(fmt::format("1 to {} letters, digits, - and _", kMaxName)));
  return {};
}

Result<std::string> lab_socket_path(const std::string& name) {
  VMM_TRY(check_lab_name(name));
  const std::string directory = VMM_TRY(lab_socket_directory());
  return fmt::format("{}/{}{}", directory, name, kSuffix);
}

std::vector<std::string> lab_socket_names() {
  std::vector<std::string> names;
  const auto directory = lab_socket_directory();
  if (!directory) return names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(*directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string file = entry->path().filename().native();
    if (file.ends_with(kSuffix)) names.push_back(file.substr(0, file.size() - kSuffix.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::optional<Fd>> connect_to_keeper(const std::string& path) {
  const Address address = VMM_TRY(address_of(path));
  Fd socket = VMM_TRY(packet_socket());
  if (::connect(socket.get(), address.get(), address.size) == 0) return socket;
  if (errno == ENOENT || errno == ECONNREFUSED) return std::nullopt;
  return fail(Error::system(ErrorKind::Lab, fmt::format("connecting to {}", path), errno));
}

Result<KeeperSocket> KeeperSocket::listen(const std::string& name) {
  std::string path = VMM_TRY(lab_socket_path(name));
  const Address address = VMM_TRY(address_of(path));
  const Fd locked = VMM_TRY(lock_directory_of(path));
  if (VMM_TRY(connect_to_keeper(path)))
    return fail(Error::usage(fmt::format("a lab '{}' is up already", name))
                    .hint("vmm lab stop ends it, --name starts another beside it"));
  Fd socket = VMM_TRY(packet_socket());
  ::unlink(path.c_str());
  struct stat status {};
  if (::bind(socket.get(), address.get(), address.size) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
      ::listen(socket.get(), 16) != 0 || ::lstat(path.c_str(), &status) != 0)
    return fail(Error::system(ErrorKind::Lab, fmt::format("listening at {}", path), errno));
  return KeeperSocket(std::move(path), std::move(socket), status.st_ino);
}

KeeperSocket::KeeperSocket(KeeperSocket&& other) noexcept
    : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)), inode_(other.inode_) {}

void KeeperSocket::close() {
  if (!path_.empty()) {
    // Without the lock, which only a directory that is gone refuses, there is nothing to remove.
    const auto locked = lock_directory_of(path_);
    struct stat status {};
    if (locked && ::lstat(path_.c_str(), &status) == 0 && status.st_ino == inode_)
      ::unlink(path_.c_str());
    path_.clear();
  }
  fd_.reset();
}

Result<void> send_keeper_message(const Fd& socket, const std::string& text,
                                 std::span<const int> fds) {
  if (text.size() > kMaxKeeperMessage)
    return fail(Error::usage(fmt::format("the command is too long for a lab: {} bytes, {} at most",
                                         text.size(), kMaxKeeperMessage)));
  iovec bytes = {.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  Control control;
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) >= 0) return {};
  if (errno == EPIPE || errno == ECONNRESET) return fail(keeper_gone());
  return fail(Error::system(ErrorKind::Lab, "sending to a lab's keeper", errno));
}

Result<KeeperMessage> receive_keeper_message(const Fd& socket, int milliseconds, int cancel) {
  std::array<pollfd, 2> polled = {pollfd{.fd = socket.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = cancel, .events = POLLIN, .revents = 0}};
  int ready = 0;
  do {
    ready = ::poll(polled.data(), polled.size(), milliseconds);
  } while (ready < 0 && errno == EINTR);
  if (polled[1].revents != 0) return fail(Error::lab("given up"));
  if (ready <= 0) return fail(Error::lab("the lab's keeper does not answer"));
  KeeperMessage message;
  message.text.resize(kMaxKeeperMessage + 1);
  iovec bytes = {.iov_base = message.text.data(), .iov_len = message.text.size()};
  Control control;
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = control.bytes.size();
  const ssize_t n = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC);
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + at, sizeof fd);
      message.fds.emplace_back(fd);
    }
  }
  if (n == 0 || (n < 0 && errno == ECONNRESET)) return fail(keeper_gone());
  if (n < 0) return fail(Error::system(ErrorKind::Lab, "receiving from a lab's socket", errno));
  if (static_cast<std::size_t>(n) > kMaxKeeperMessage)
    return fail(Error::lab("a message on a lab's socket is too long"));
  message.text.resize(static_cast<std::size_t>(n));
  return message;
}

}  // namespace vmm
