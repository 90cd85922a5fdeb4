// A debugger at a machine: the listening socket, or standard input and output; the client that is
// connected; the stub that answers it. Without any of them it serves --catch alone. Lives on the
// event loop's thread; nothing here blocks.
#pragma once

#include <poll.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/debugger.h"
#include "vmm/gdb/stub.h"
#include "vmm/machine/debug_monitor.h"
#include "vmm/machine/debug_socket.h"

namespace vmm {

class DebugSession {
 public:
  // The guest is stopped, and outlives this, as does the machine, which is the same one.
  // Without an address nobody can connect.
  static Result<std::unique_ptr<DebugSession>> open(const std::optional<DebugAddress>& address,
                                                    DebugTarget& target, MonitorMachine& machine,
                                                    gdb::Arch arch);

  // For gdb's `target remote`; empty where the client is there from the start (stdio).
  const std::string& name() const { return name_; }
  // The guest runs from now on although nobody is connected.
  Result<void> run();
  // And stops, for whoever is connected to nothing.
  Result<void> halt();
  // For breakpoints that no client sees.
  Debugger& debugger() { return debugger_; }
  const std::vector<bool>& who() const { return debugger_.who(); }
  bool has_client() const { return client_.has_value(); }
  // Whether the guest is stopped for the debugger's sake.
  bool holds_guest() const { return !debugger_.running(); }

  // A command of the monitor's about vCPU `vcpu`; only while the guest is stopped.
  MonitorAnswer monitor(std::string_view command, unsigned vcpu);
  // The same while the debugger lets the guest run; all are paused. Then the guest runs on.
  MonitorAnswer peek(std::string_view command, unsigned vcpu);
  Result<void> run_on() { return target_.run_some(debugger_.who()); }

  void add_poll(std::vector<pollfd>& fds) const;
  Result<void> serve(const std::vector<pollfd>& fds);
  // SIGINT came: stops the guest where the client is the process that started us (stdio). False:
  // the signal has its usual meaning.
  Result<bool> take_interrupt();
  // A vCPU stopped for its debug control; all are paused.
  Result<void> stopped(unsigned vcpu, const DebugStop& stop);
  // While vCPUs take turns to step (Debugger::turn): whether one is overdue, how long to wait for
  // it before one asks again, and what to do when it is and all are paused.
  bool turn_is_overdue();
  std::chrono::nanoseconds patience() const;
  Result<void> pass_turn();
  // The machine was reset; all are paused. A guest that ran goes on, but for a step of the user's,
  // which ends at its first instruction.
  Result<void> machine_was_reset();
  // A vCPU died, and the guest is kept until the client lets go of it or kills it.
  Result<void> died(unsigned vcpu, int exit_code);
  // The guest has ended: tells the client, as far as it listens for `seconds`.
  void ended(int exit_code, double seconds);

 private:
  DebugSession(Listener listener, std::string name, bool on_stdio, DebugTarget& target,
               MonitorMachine& machine, gdb::Arch arch);
  Result<void> accept();
  Result<void> receive();
  Result<void> hear_last_words();
  Result<void> do_wish();
  Result<std::optional<DebugReport>> stop_guest();
  Result<void> interrupt();
  void tell(const DebugReport& report);
  Result<void> pass_on(const DebugReport& report);
  Result<void> lose_client();
  void send();

  // The client, while there is one: a socket of ours twice, or standard input and output.
  struct Client {
    Fd owned;
    int in = -1;
    int out = -1;
  };

  Listener listener_;  // none on stdio
  bool on_stdio_;
  std::optional<Client> client_;
  bool let_go_ = false;  // it said that the guest should go on without it
  std::string name_;
  DebugTarget& target_;
  MonitorMachine& machine_;
  PagingFeatures paging_;
  Debugger debugger_;
  gdb::Stub stub_;
  std::string output_;
  StopReason stop_;
  std::optional<std::uint64_t> turn_;  // seen last
  std::chrono::steady_clock::time_point turn_since_;
};

}  // namespace vmm
