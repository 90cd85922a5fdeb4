#include "vmm/lab/qmp.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "vmm/base/text.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxLine = 1 << 20;

Error monitor_closed() { return Error::lab("QEMU's monitor was closed"); }

}  // namespace

Result<json> Qmp::execute(const std::string& command, json arguments, int fd) {
  if (!greeted_) {
    VMM_TRY(receive_line());  // its version
    greeted_ = true;
    VMM_TRY(execute("qmp_capabilities"));
  }
  const json question = {{"execute", command}, {"arguments", std::move(arguments)}};
  VMM_TRY(send(question.dump() + "\n", fd));
  while (true) {
    const std::string line = VMM_TRY(receive_line());
    const json answer = json::parse(line, nullptr, false);
    if (!answer.is_object())
      return fail(Error::lab(fmt::format("QEMU's monitor says '{}'", printable(line, 200))));
    if (answer.contains("return")) return answer["return"];
    if (answer.contains("error"))
      return fail(Error::lab(
          fmt::format("QEMU refuses {}: {}", command, printable(answer["error"].dump(), 300))));
    // An event, which nobody waits for.
  }
}

Result<void> Qmp::send(const std::string& line, int fd) {
  iovec bytes = {.iov_base = const_cast<char*>(line.data()), .iov_len = line.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  // A few hundred bytes, which a monitor that answers has always room for.
  const ssize_t count = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (count < 0 && (errno == EPIPE || errno == ECONNRESET)) return fail(monitor_closed());
  if (count < 0) return fail(Error::system(ErrorKind::Lab, "write to QEMU's monitor", errno));
  if (static_cast<std::size_t>(count) != line.size())
    return fail(Error::lab("QEMU's monitor does not read"));
  return {};
}

Result<std::string> Qmp::receive_line() {
  const auto deadline = std::chrono::steady_clock::now() + patience_;
  while (true) {
    if (const std::size_t end = received_.find('\n'); end != received_.npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd polled = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const int ready = left.count() > 0 ? ::poll(&polled, 1, static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0)
      return fail(Error::lab(
          fmt::format("QEMU's monitor has said nothing for {} s", patience_.count() / 1000)));
    std::array<char, 4096> buffer;
    const ssize_t count = ::read(socket_.get(), buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return fail(monitor_closed());
    received_.append(buffer.data(), static_cast<std::size_t>(count));
    if (received_.size() > kMaxLine) return fail(Error::lab("QEMU's monitor says too much"));
  }
}

}  // namespace vmm
