// The control socket (--ctl): the monitor's commands without gdb, also while the guest runs. Lives
// on the event loop's thread; nothing here blocks.
//
// A client sends lines, one command each. Each is answered with the lines of its text, a blank in
// front of each, and a line without: "ok", "usage" or "failed". So nothing that a guest writes to
// its screen looks like the end of an answer.
#pragma once

#include <poll.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/machine/debug_monitor.h"
#include "vmm/machine/debug_socket.h"

namespace vmm {

namespace control {
constexpr std::size_t kMaxLine = 4096;  // a longer one ends the connection
constexpr std::size_t kMaxClients = 4;  // more are turned away

std::string_view status_word(MonitorAnswer::Status status);
// An answer as it is sent.
std::string encode(const MonitorAnswer& answer);
// Takes the first whole answer off the front of `received`; nothing while it is not complete. What
// is no answer at all is an error.
Result<std::optional<MonitorAnswer>> decode(std::string& received);
}  // namespace control

class ControlSession {
 public:
  // An error of `run` is the end of the machine.
  using Run = std::function<Result<MonitorAnswer>(std::string_view line)>;

  static Result<std::unique_ptr<ControlSession>> open(const DebugAddress& address, Run run);
  ControlSession(Listener listener, Run run)
      : listener_(std::move(listener)), run_(std::move(run)) {}

  void add_poll(std::vector<pollfd>& fds) const;
  Result<void> serve(const std::vector<pollfd>& fds);
  // The guest has ended: the last answers go out, as far as they are taken within `seconds`.
  void ended(double seconds);

 private:
  struct Client {
    Fd fd;
    std::string input;    // at most a line and what one read gave
    std::string output;   // of one command
    bool at_end = false;  // sends no more
    bool gone = false;

    bool has_line() const { return input.find('\n') != std::string::npos; }
  };
  void accept();
  void receive(Client& client);
  Result<void> carry_out(Client& client);
  static void send(Client& client);

  Listener listener_;
  Run run_;
  std::vector<Client> clients_;
};

}  // namespace vmm
