#include "vmm/machine/debug_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "vmm/base/descriptors.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

constexpr std::uint32_t kLoopback = 0x7f00'0001;
constexpr const char* kForms = "unix:PATH, tcp:127.0.0.1:PORT or stdio";

Result<DebugAddress> parse_tcp(std::string_view text, std::string_view rest, bool allow_remote) {
  const auto bad = [&](std::string_view why) {
    return fail(Error::usage(fmt::format("--gdb {}: {}", printable(text), why)).hint(kForms));
  };
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return bad("a port is missing");
  DebugAddress address{.kind = DebugAddress::Kind::Tcp, .path = {}};
  const std::string host(rest.substr(0, colon));
  in_addr parsed{};
  if (host.empty() || host == "localhost")
    address.host = kLoopback;
  else if (inet_pton(AF_INET, host.c_str(), &parsed) == 1)
    address.host = ntohl(parsed.s_addr);
  else
    return bad("this is no IPv4 address");
  const std::string_view port = rest.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size())
    return bad("the port is a number from 0 to 65535");
  if (address.host >> 24 != 127 && !allow_remote)
    return fail(Error::usage(fmt::format("--gdb {}: whoever reaches this address reads and writes "
                                         "the whole guest",
                                         printable(text)))
                    .hint("--gdb-allow-remote permits it; an ssh tunnel to 127.0.0.1 needs no "
                          "permission"));
  return address;
}

Result<Listener> listen_unix(const DebugAddress& address, std::string_view option) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (address.path.size() >= sizeof name.sun_path)
    return fail(Error::usage(fmt::format(
        "{} unix:{}: the path has {} bytes, and a socket's at "
        "most {}",
        option, printable(address.path), address.path.size(), sizeof name.sun_path - 1)));
  std::memcpy(name.sun_path, address.path.data(), address.path.size());
  if (const auto there = clear_socket_path(address.path))
    return fail(Error::usage(fmt::format("{} unix:{}: {}", option, printable(address.path), *there))
                    .hint("give another path, or remove it"));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto failed = [&] {
    return fail(Error::system(ErrorKind::Usage,
                              fmt::format("{} unix:{}", option, printable(address.path)), errno));
  };
  if (!fd) return failed();
  const mode_t before = ::umask(0177);
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
  ::umask(before);
  if (bound != 0) return failed();
  Listener listener(std::move(fd), address.path);
  if (::listen(listener.get(), 1) != 0) return failed();
  return listener;
}

std::string tcp_text(const DebugAddress& address) {
  return fmt::format("{}.{}.{}.{}:{}", address.host >> 24, address.host >> 16 & 0xff,
                     address.host >> 8 & 0xff, address.host & 0xff, address.port);
}

Result<Listener> listen_tcp(const DebugAddress& address) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto failed = [&] {
    return fail(Error::system(ErrorKind::Usage, "--gdb tcp:" + tcp_text(address), errno));
  };
  if (!fd) return failed();
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(address.port);
  name.sin_addr.s_addr = htonl(address.host);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 ||
      ::listen(fd.get(), 1) != 0)
    return failed();
  return Listener(std::move(fd));
}

}  // namespace

Result<DebugAddress> parse_debug_address(std::string_view text, bool allow_remote) {
  if (text.starts_with("unix:")) {
    if (text.size() == 5) return fail(Error::usage("--gdb unix: needs a path after the colon"));
    return DebugAddress{.kind = DebugAddress::Kind::Unix, .path = std::string(text.substr(5))};
  }
  if (text == "stdio") return DebugAddress{.kind = DebugAddress::Kind::Stdio, .path = {}};
  if (text.starts_with("tcp:")) return parse_tcp(text, text.substr(4), allow_remote);
  return fail(
      Error::usage(fmt::format("--gdb {}: where should it listen?", printable(text))).hint(kForms));
}

Result<DebugAddress> parse_control_address(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  if (text.starts_with(kUnix) && text.size() > kUnix.size())
    return DebugAddress{.kind = DebugAddress::Kind::Unix,
                        .path = std::string(text.substr(kUnix.size()))};
  return fail(Error::usage(fmt::format("--ctl {}: where should it listen?", printable(text)))
                  .hint("unix:PATH"));
}

Listener::Listener(Fd fd, const std::string& path) : fd_(std::move(fd)) {
  struct stat status {};
  if (!path.empty() && ::lstat(path.c_str(), &status) == 0)
    file_.reset(new File{.path = path, .device = status.st_dev, .inode = status.st_ino});
}

Listener::File::~File() {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && status.st_dev == device && status.st_ino == inode)
    ::unlink(path.c_str());
}

Result<Listener> listen_at(const DebugAddress& address, std::string_view option) {
  return address.kind == DebugAddress::Kind::Unix ? listen_unix(address, option)
                                                  : listen_tcp(address);
}

std::string remote_name(const DebugAddress& address, const Listener& listener) {
  if (address.kind == DebugAddress::Kind::Unix) return address.path;
  sockaddr_in name{};
  socklen_t size = sizeof name;
  DebugAddress bound = address;
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0)
    bound.port = ntohs(name.sin_port);
  return tcp_text(bound);
}

}  // namespace vmm
