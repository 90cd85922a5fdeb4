// The host's half of the conversation with a lab's agent: greeting, questions and answers, and the
// watchdog. What is asked, and what for, is session.h.
#pragma once

#include <poll.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/channel.h"
#include "vmm/lab/messages.h"

namespace vmm {

class LabLink {
 public:
  using Death = std::function<std::optional<std::string>()>;
  // Descriptors that are served besides the channel: adds to what is polled, and looks at it after.
  struct Guest {
    std::function<void(std::vector<pollfd>&)> want;
    std::function<Result<void>(const std::vector<pollfd>&)> serve;
  };

  // `channel` is a non-blocking socket, not owned.
  LabLink(int channel, Death dead, std::chrono::seconds patience);

  // Waits until the agent has greeted. All errors below are of kind Lab, and final: silence for
  // longer than the patience, a dead emulator, a broken channel, an answer to no question.
  Result<LabGreeting> greet();

  // Asks for a sign of life and waits at most `limit` for it. Errors as above.
  Result<void> check(std::chrono::seconds limit);

  void set_patience(std::chrono::seconds patience) { patience_ = patience; }

  // One question is open at a time; the stream that it speaks of is opened right after ask().
  void ask(const LabRequest& request);
  Result<LabReply> answer();
  // ask() and answer() for questions whose answer is Done or Failed; Failed is an error of kind
  // Lab, but not a final one.
  Result<void> demand(const LabRequest& request);
  // Sends what has no answer.
  void tell(const LabRequest& request);

  // Called for FileFollows as it arrives: the bytes come right behind it.
  void on_file(std::function<Result<void>(const FileFollows&)> begin) {
    on_file_ = std::move(begin);
  }
  // From the answer Started on, until the lab says how the command ended.
  bool running() const { return running_; }
  // How the last command that was started ended.
  const std::optional<Exited>& exited() const { return exited_; }

  // Waits some tenths of a second at most for anything to happen, and serves it.
  Result<void> step();
  void set_guest(Guest guest) { guest_ = std::move(guest); }
  bool broken() const { return broken_.has_value(); }
  // Time that nobody spent on the channel is no silence.
  void wake();

  Channel& channel() { return channel_; }
  std::uint32_t new_stream() { return next_stream_++; }
  // Writes what is queued if it can be written now.
  void flush() { (void)channel_.flush(); }

 private:
  Result<void> serve_once();
  Result<void> watch(std::chrono::steady_clock::duration waited, bool heard);
  Result<void> handle(const Channel::Message& message);
  Result<void> handle_greeting(const std::string& text);
  Result<void> handle_reply(LabReply reply);
  Error explained(Error error);

  Channel channel_;
  Death dead_;
  std::chrono::steady_clock::duration patience_;
  std::string nonce_;
  std::optional<LabGreeting> greeting_;
  unsigned greetings_ = 0;
  std::chrono::steady_clock::duration silence_{};
  std::chrono::steady_clock::duration since_greeting_{};
  bool ponged_ = false;
  bool pinged_ = false;
  bool awaiting_ = false;
  std::optional<LabReply> reply_;
  bool running_ = false;
  std::optional<Exited> exited_;
  std::function<Result<void>(const FileFollows&)> on_file_;
  Guest guest_;
  std::uint32_t next_stream_ = 1;
  std::optional<Error> broken_;
};

}  // namespace vmm
