// A client of GDB's remote protocol, as small as tests need it.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"
#include "vmm/gdb/packet.h"

namespace vmm {

class RspClient {
 public:
  static constexpr int kPatience = 120;  // seconds; labs are slow
  // False: nobody listens there.
  bool connect(const std::string& path) {
    socket_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path.copy(name.sun_path, sizeof name.sun_path - 1);
    return ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0;
  }
  void send_bytes(std::string_view bytes) {
    // Whoever has hung up is found out by next().
    (void)!::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  void send(std::string_view payload) { send_bytes(gdb::frame(payload)); }
  // The next packet; "(nothing)" when none comes within `seconds` or the other side hangs up.
  std::string next(int seconds = kPatience) {
    while (events_.empty()) {
      pollfd fd{socket_.get(), POLLIN, 0};
      if (::poll(&fd, 1, seconds * 1000) <= 0) return "(nothing)";
      std::uint8_t bytes[65536];
      const ssize_t n = ::read(socket_.get(), bytes, sizeof bytes);
      if (n <= 0) return "(nothing)";
      for (gdb::Event& event : reader_.push(std::span(bytes, static_cast<std::size_t>(n))))
        if (auto* packet = std::get_if<gdb::Packet>(&event))
          events_.push_back(std::move(packet->payload));
    }
    std::string first = std::move(events_.front());
    events_.erase(events_.begin());
    return first;
  }
  std::string ask(std::string_view payload) {
    send(payload);
    return next();
  }
  void close() { socket_.reset(); }

 private:
  Fd socket_;
  gdb::PacketReader reader_;
  std::vector<std::string> events_;
};

}  // namespace vmm
