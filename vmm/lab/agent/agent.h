// The lab's end of the channel: does what the host asks, one question after another, and relays
// streams meanwhile. Needs no machine of its own: any process that has a descriptor can serve.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/agent/command.h"
#include "vmm/lab/agent/files.h"
#include "vmm/lab/channel.h"
#include "vmm/lab/messages.h"

namespace vmm {

class Agent {
 public:
  enum class Ending { Closed, PowerOff };

  // `channel` is non-blocking and not owned. `about` is what the host is told. The lab's paths are
  // under `root`: nothing in a lab of its own; as an ordinary process, a folder to play in. (The
  // command sees the whole file system all the same.) Blocks SIGCHLD and ignores SIGPIPE in this
  // process.
  static Result<std::unique_ptr<Agent>> make(int channel, LabGreeting about, std::string root = "");
  // Kills the command that is still running.
  ~Agent();
  // Called for each greeting of a host, before it is answered.
  void on_greeting(std::function<void(const HostGreeting&)> greeted) {
    greeted_ = std::move(greeted);
  }

  // Greets, and serves until the channel is closed or the host asks for a power-off. When the
  // channel breaks, says so to the host, drops everything and waits for a new greeting.
  Ending serve();

 private:
  struct Command {
    pid_t pid;
    std::uint32_t in, out, err;
  };
  struct PendingConnection {
    std::string path;
    std::uint32_t stream;
  };

  Agent(int channel, Fd children, LabGreeting about, std::string root);

  void start_session();
  Result<void> wait_and_serve();
  void give_up(const Error& error);
  Result<void> handle(const Channel::Message& message);
  Result<void> handle_request(LabRequest request);
  void reply(const LabReply& reply);
  void reply(const Result<void>& result);
  Result<void> open_stream(std::uint32_t id, StreamSpec spec);
  // A stream that is over before it began, because what it was for has failed.
  Result<void> refuse_stream(std::uint32_t id);
  void kill_command(int signal);
  void stop_command();
  void reap_children();
  void command_ended(int status);
  void try_connections();

  // One for each request that takes more than a call.
  Result<void> put(const PutFile& request);
  Result<void> get(const GetFile& request);
  Result<void> start(const StartCommand& request);
  Result<void> connect(const ConnectSocket& request);

  int fd_;
  Fd children_;  // signalfd: SIGCHLD
  LabGreeting about_;
  std::string root_;
  std::function<void(const HostGreeting&)> greeted_;
  std::optional<Channel> channel_;
  LabFiles files_;
  std::optional<Command> command_;
  std::vector<PendingConnection> connections_;
  bool power_off_ = false;
};

}  // namespace vmm
