#include "vmm/lab/keeper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "vmm/base/descriptors.h"
#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/lab/keeper_messages.h"
#include "vmm/lab/kept_lab.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxName = 32;
constexpr std::size_t kMaxDescriptors = 3;
constexpr const char* kSuffix = ".sock";

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

// One message with its descriptors. A message that does not fit in the socket's buffer is EMSGSIZE.
Result<void> send_message(const Fd& socket, const std::string& text, std::span<const int> fds) {
  if (text.size() > kMaxKeeperMessage)
    return fail(Error::usage(fmt::format("the command is too long for a lab: {} bytes, {} at most",
                                         text.size(), kMaxKeeperMessage)));
  iovec bytes = {.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0)
    return fail(Error::system(ErrorKind::Lab, "sending to a lab's keeper", errno));
  return {};
}

struct Message {
  std::string text;
  std::vector<Fd> fds;
};

// Waits at most `milliseconds` (-1: for ever) or until `cancel` is readable.
Result<Message> receive_message(const Fd& socket, int milliseconds, int cancel) {
  std::array<pollfd, 2> polled = {pollfd{.fd = socket.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = cancel, .events = POLLIN, .revents = 0}};
  int ready = 0;
  do {
    ready = ::poll(polled.data(), polled.size(), milliseconds);
  } while (ready < 0 && errno == EINTR);
  if (polled[1].revents != 0) return fail(Error::lab("given up"));
  if (ready <= 0) return fail(Error::lab("the lab's keeper does not answer"));
  Message message;
  message.text.resize(kMaxKeeperMessage + 1);
  iovec bytes = {.iov_base = message.text.data(), .iov_len = message.text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t n = ::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC);
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + at, sizeof fd);
      message.fds.emplace_back(fd);
    }
  }
  if (n < 0) return fail(Error::system(ErrorKind::Lab, "receiving from a lab's socket", errno));
  if (n == 0) return fail(Error::lab("the other end of a lab's socket was closed"));
  if (static_cast<std::size_t>(n) > kMaxKeeperMessage)
    return fail(Error::lab("a message on a lab's socket is too long"));
  message.text.resize(static_cast<std::size_t>(n));
  return message;
}

Result<std::string> socket_path(const std::string& name) {
  VMM_TRY(check_lab_name(name));
  return fmt::format("{}/{}{}", VMM_TRY(lab_socket_directory()), name, kSuffix);
}

// Nothing when no keeper listens there.
Result<std::optional<Fd>> connect_to(const std::string& path) {
  const Address address = VMM_TRY(address_of(path));
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Error::system(ErrorKind::Lab, "socket", errno));
  if (::connect(socket.get(), address.get(), address.size) == 0) return socket;
  if (errno == ENOENT || errno == ECONNREFUSED) return std::nullopt;
  return fail(Error::system(ErrorKind::Lab, fmt::format("connecting to {}", path), errno));
}

Result<Fd> connect_to_lab(const std::string& name) {
  const std::string path = VMM_TRY(socket_path(name));
  auto socket = VMM_TRY(connect_to(path));
  if (socket) return std::move(*socket);
  return fail(Error::no_lab(fmt::format("no lab '{}' is up", name))
                  .hint("vmm lab start boots one, vmm lab list shows those that are up"));
}

Result<KeeperReply> ask(const Fd& socket, const KeeperRequest& request, std::span<const int> fds,
                        int milliseconds, int cancel) {
  VMM_TRY(send_message(socket, to_json(request), fds));
  const Message message = VMM_TRY(receive_message(socket, milliseconds, cancel));
  KeeperReply reply = VMM_TRY(parse_keeper_reply(message.text));
  if (reply.error) return fail(std::move(*reply.error));
  return reply;
}

// The process that holds a lab.
class Keeper {
 public:
  Keeper(std::string path, Fd listener, KeptLab::Boot boot)
      : path_(std::move(path)), listener_(std::move(listener)), lab_(std::move(boot)) {}
  ~Keeper() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // The other process of a fork() has the socket now.
  void hand_over() { path_.clear(); }

  Result<std::string> boot(int cancel) {
    VMM_TRY(lab_.boot(cancel));
    return lab_.description();
  }

  // Until a client says stop.
  void serve() {
    while (!stopped_) {
      const Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client) attend(client);
    }
  }

 private:
  void attend(const Fd& client) {
    // Whoever connects and says nothing does not hold up the others for long.
    constexpr int kGreeting = 2000;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
        peer.uid != ::geteuid())
      return;
    Result<Message> message = receive_message(client, kGreeting, -1);
    if (!message) return;
    auto request = parse_keeper_request(message->text);
    KeeperReply reply = request ? answer(*request, message->fds, client) : KeeperReply();
    if (!request) reply.error = std::move(request).error();
    reply.description = lab_.description();
    reply.pid = ::getpid();
    // A client that is gone needs no answer.
    [[maybe_unused]] const auto sent = send_message(client, to_json(reply), {});
  }

  KeeperReply answer(const KeeperRequest& request, const std::vector<Fd>& fds, const Fd& client) {
    KeeperReply reply;
    switch (request.kind) {
      case KeeperRequest::Kind::Status:
        reply.state = lab_.state();
        break;
      case KeeperRequest::Kind::Stop:
        lab_.end();
        stopped_ = true;
        break;
      case KeeperRequest::Kind::Execute: {
        if (fds.size() != (request.has_input ? 3U : 2U)) {
          reply.error = Error::lab("a command for a lab came without its descriptors");
          break;
        }
        const std::size_t out = request.has_input ? 1 : 0;
        auto result = lab_.execute(request.command,
                                   {.in = request.has_input ? fds[0].get() : -1,
                                    .out = fds[out].get(),
                                    .err = fds[out + 1].get()},
                                   client.get());
        if (result)
          reply.exit = *result;
        else
          reply.error = std::move(result).error();
        break;
      }
    }
    return reply;
  }

  std::string path_;
  Fd listener_;
  KeptLab lab_;
  bool stopped_ = false;
};

// Binds the name. A socket that a killed keeper left behind is replaced.
Result<Fd> listen_at(const std::string& path, const std::string& name) {
  if (VMM_TRY(connect_to(path)))
    return fail(Error::usage(fmt::format("a lab '{}' is up already", name))
                    .hint("vmm lab stop ends it, --name starts another beside it"));
  const Address address = VMM_TRY(address_of(path));
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Error::system(ErrorKind::Lab, "socket", errno));
  ::unlink(path.c_str());
  if (::bind(socket.get(), address.get(), address.size) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
      ::listen(socket.get(), 16) != 0)
    return fail(Error::system(ErrorKind::Lab, fmt::format("listening at {}", path), errno));
  return socket;
}

// The keeper's process from its first to its last moment. `report` takes how the boot went.
[[noreturn]] void keep(Keeper& keeper, const Fd& report) {
  ::setsid();
  // The terminal stays the user's: nothing here reads from it or writes to it.
  if (const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC)); null)
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
  KeeperReply reply;
  auto up = keeper.boot(-1);
  if (up)
    reply.description = *up;
  else
    reply.error = std::move(up).error();
  [[maybe_unused]] const auto sent = send_message(report, to_json(reply), {});
  if (!reply.error) keeper.serve();
  keeper.~Keeper();
  ::_exit(0);
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

std::vector<RunningLab> running_labs() {
  constexpr int kAnswer = 500;
  std::vector<RunningLab> labs;
  const auto directory = lab_socket_directory();
  if (!directory) return labs;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(*directory, ignored)) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with(kSuffix)) continue;
    auto socket = connect_to(entry.path().string());
    if (!socket || !*socket) continue;
    RunningLab lab;
    lab.name = file.substr(0, file.size() - std::strlen(kSuffix));
    // A keeper that waits for a command's end does not answer.
    lab.state = "busy";
    if (auto reply = ask(**socket, {}, {}, kAnswer, -1)) {
      lab.description = reply->description;
      lab.state = reply->state;
      lab.pid = reply->pid;
    }
    labs.push_back(std::move(lab));
  }
  std::sort(labs.begin(), labs.end(),
            [](const RunningLab& a, const RunningLab& b) { return a.name < b.name; });
  return labs;
}

Result<std::string> start_lab(const std::string& name, const LabSpec& spec,
                              std::chrono::seconds patience, int cancel) {
  const std::string path = VMM_TRY(socket_path(name));
  Keeper keeper(path, VMM_TRY(listen_at(path, name)), [spec, patience](int given_up) {
    return Lab::boot(spec, {.patience = patience, .cancel = given_up});
  });
  auto [ours, theirs] = VMM_TRY(make_socket_pair(SOCK_SEQPACKET));
  const pid_t child = ::fork();
  if (child < 0) return fail(Error::system(ErrorKind::Lab, "fork", errno));
  if (child == 0) {
    ours.reset();
    keep(keeper, theirs);
  }
  theirs.reset();
  const auto message = receive_message(ours, -1, cancel);
  auto reply =
      message ? parse_keeper_reply(message->text) : Result<KeeperReply>(fail(message.error()));
  if (reply && !reply->error) {
    keeper.hand_over();
    return reply->description;
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return fail(reply ? std::move(*reply->error) : std::move(reply).error());
}

Result<LabExit> execute_in_lab(const std::string& name, const LabCommand& command,
                               const LabStreams& streams, int cancel) {
  const Fd socket = VMM_TRY(connect_to_lab(name));
  std::vector<int> fds;
  if (streams.in >= 0) fds.push_back(streams.in);
  fds.insert(fds.end(), {streams.out, streams.err});
  const KeeperReply reply = VMM_TRY(
      ask(socket,
          {.kind = KeeperRequest::Kind::Execute, .command = command, .has_input = streams.in >= 0},
          fds, -1, cancel));
  return reply.exit;
}

Result<void> stop_lab(const std::string& name) {
  const Fd socket = VMM_TRY(connect_to_lab(name));
  VMM_TRY(ask(socket, {.kind = KeeperRequest::Kind::Stop, .command = {}}, {}, -1, -1));
  return {};
}

}  // namespace vmm
