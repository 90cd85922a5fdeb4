#include "vmm/machine/control_session.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/base/text.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace control {
namespace {

using Status = MonitorAnswer::Status;
constexpr std::array kStatuses = {Status::Done, Status::Usage, Status::Failed};

}  // namespace

std::string_view status_word(Status status) {
  switch (status) {
    case Status::Done:
      return "ok";
    case Status::Usage:
      return "usage";
    case Status::Failed:
      return "failed";
  }
  return "";
}

std::string encode(const MonitorAnswer& answer) {
  std::string text;
  std::string_view rest = answer.text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    text += fmt::format(" {}\n", line);
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
  }
  return text + fmt::format("{}\n", status_word(answer.status));
}

Result<std::optional<MonitorAnswer>> decode(std::string& received) {
  MonitorAnswer answer;
  std::size_t at = 0;
  while (true) {
    const std::size_t end = received.find('\n', at);
    if (end == std::string::npos) return std::nullopt;
    const std::string_view line = std::string_view(received).substr(at, end - at);
    at = end + 1;
    if (line.starts_with(' ')) {
      answer.text += fmt::format("{}\n", line.substr(1));
      continue;
    }
    for (const Status status : kStatuses) {
      if (line != status_word(status)) continue;
      answer.status = status;
      received.erase(0, at);
      return answer;
    }
    return fail(Error::usage(
        fmt::format("this is no control socket: it answered {}", printable(line, 60))));
  }
}

}  // namespace control

Result<std::unique_ptr<ControlSession>> ControlSession::open(const DebugAddress& address, Run run) {
  return std::make_unique<ControlSession>(VMM_TRY(listen_at(address, "--ctl")), std::move(run));
}

void ControlSession::add_poll(std::vector<pollfd>& fds) const {
  fds.push_back({listener_.get(), POLLIN, 0});
  for (const Client& client : clients_) {
    // Who does not take an answer is not heard, and who has a line here need not send.
    const bool busy = !client.output.empty() || client.has_line();
    fds.push_back({client.fd.get(), static_cast<short>(busy ? POLLOUT : POLLIN), 0});
  }
}

Result<void> ControlSession::serve(const std::vector<pollfd>& fds) {
  bool knocks = false;
  for (const pollfd& fd : fds) {
    if (fd.revents == 0) continue;
    knocks = knocks || fd.fd == listener_.get();
    const auto client = std::ranges::find_if(
        clients_, [&](const Client& candidate) { return candidate.fd.get() == fd.fd; });
    if (client == clients_.end()) continue;
    if ((fd.events & POLLOUT) == 0) receive(*client);
    send(*client);
    if (client->output.empty()) VMM_TRY(carry_out(*client));
  }
  std::erase_if(clients_, [](const Client& client) {
    return client.gone || (client.at_end && client.output.empty() && !client.has_line());
  });
  if (knocks) accept();
  return {};
}

void ControlSession::accept() {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return;
  clients_.push_back({.fd = std::move(fd), .input = {}, .output = {}});
  if (clients_.size() <= control::kMaxClients) return;
  clients_.back().output =
      control::encode({MonitorAnswer::Status::Failed,
                       fmt::format("there are {} connections already\n", control::kMaxClients)});
  send(clients_.back());
  clients_.pop_back();
}

void ControlSession::receive(Client& client) {
  std::array<char, control::kMaxLine> bytes;
  const ssize_t n = ::read(client.fd.get(), bytes.data(), bytes.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    // What stands without a line end is a command too.
    if (!client.input.empty() && !client.has_line()) client.input += '\n';
    client.at_end = true;
    client.gone = n < 0;
    return;
  }
  client.input.append(bytes.data(), static_cast<std::size_t>(n));
}

// One line: another client's comes before the next.
Result<void> ControlSession::carry_out(Client& client) {
  const std::size_t end = client.input.find('\n');
  if (end > control::kMaxLine && client.input.size() > control::kMaxLine) {
    client.output =
        control::encode({MonitorAnswer::Status::Usage,
                         fmt::format("a line has at most {} bytes\n", control::kMaxLine)});
    client.input.clear();
    client.at_end = true;
  } else if (end != std::string::npos) {
    std::string_view line = std::string_view(client.input).substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    client.output = control::encode(VMM_TRY(run_(line)));
    client.input.erase(0, end + 1);
  }
  send(client);
  return {};
}

void ControlSession::send(Client& client) {
  while (!client.output.empty()) {
    const ssize_t n = ::write(client.fd.get(), client.output.data(), client.output.size());
    if (n <= 0) {
      if (n < 0 && errno != EAGAIN && errno != EINTR) client.gone = true;
      break;
    }
    client.output.erase(0, static_cast<std::size_t>(n));
  }
  if (client.gone) client.output.clear();
}

void ControlSession::ended(double seconds) {
  for (Client& client : clients_)
    while (!client.output.empty() && takes_output(client.fd.get(), seconds)) send(client);
}

}  // namespace vmm
