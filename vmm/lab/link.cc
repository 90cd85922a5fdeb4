#include "vmm/lab/link.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

#include "vmm/base/text.h"

namespace vmm {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kTick{200};
// A single wait counts for no more than this: we, or the whole machine, may have been stopped.
constexpr milliseconds kLongestWait{1000};
constexpr seconds kGreetingInterval{2};
constexpr unsigned kMaxGreetings = 10'000;
constexpr std::size_t kMaxNoise = 1 << 20;
// An emulator that dies closes the channel a moment before it can be asked how it ended.
constexpr milliseconds kDeathStep{20};
constexpr int kDeathSteps = 50;

std::string host_greeting(const std::string& nonce) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return to_json(
      HostGreeting{nonce, static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count())});
}

std::string random_word() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

}  // namespace

LabLink::LabLink(int channel, Death dead, std::chrono::seconds patience)
    : channel_(channel, "the channel to the lab", kMaxNoise),
      dead_(std::move(dead)),
      patience_(patience),
      nonce_(random_word()) {}

Result<LabGreeting> LabLink::greet() {
  wake();
  channel_.send(FrameKind::Greeting, host_greeting(nonce_));
  while (!greeting_) VMM_TRY(step());
  return *greeting_;
}

void LabLink::wake() {
  silence_ = {};
  pinged_ = false;
}

Result<void> LabLink::check(seconds limit) {
  const auto usual = std::exchange(patience_, limit);
  wake();
  ponged_ = false;
  tell(Ping{});
  Result<void> result;
  while (result && !ponged_) result = step();
  patience_ = usual;
  return result;
}

void LabLink::tell(const LabRequest& request) { channel_.send_control(to_json(request)); }

void LabLink::ask(const LabRequest& request) {
  tell(request);
  reply_.reset();
  awaiting_ = true;
  if (std::holds_alternative<StartCommand>(request)) exited_.reset();
}

Result<LabReply> LabLink::answer() {
  while (!reply_) VMM_TRY(step());
  return *std::exchange(reply_, {});
}

Result<void> LabLink::demand(const LabRequest& request) {
  ask(request);
  const LabReply reply = VMM_TRY(answer());
  if (std::holds_alternative<Done>(reply)) return {};
  if (const auto* failed = std::get_if<Failed>(&reply))
    return fail(Error::lab(printable(failed->text, 1000)));
  return fail(Error::lab("the lab answers another question than was asked"));
}

Result<void> LabLink::step() {
  if (broken_) return fail(*broken_);
  auto served = serve_once();
  if (!served) {
    broken_ = explained(std::move(served).error());
    return fail(*broken_);
  }
  return {};
}

Result<void> LabLink::serve_once() {
  VMM_TRY(channel_.flush());
  std::vector<pollfd> polled;
  channel_.want(polled);
  if (guest_.want) guest_.want(polled);
  const auto begun = Clock::now();
  const int ready = ::poll(polled.data(), polled.size(), static_cast<int>(kTick.count()));
  if (ready < 0 && errno != EINTR) return fail(Error::system(ErrorKind::Internal, "poll", errno));
  const auto waited = Clock::now() - begun;
  bool heard = false;
  if (ready > 0) {
    VMM_TRY(channel_.serve(
        polled, [this](const auto& message) { return handle(message); }, heard));
    if (guest_.serve) VMM_TRY(guest_.serve(polled));
  }
  return watch(waited, heard);
}

Result<void> LabLink::watch(Clock::duration waited, bool heard) {
  waited = std::min<Clock::duration>(waited, kLongestWait);
  if (heard) wake();
  silence_ += waited;
  if (silence_ > patience_)
    return fail(Error::lab(fmt::format("the lab has been silent for {} s",
                                       std::chrono::duration_cast<seconds>(silence_).count())));
  if (dead_)
    if (const auto death = dead_()) return fail(Error::lab(*death));
  if (!greeting_) {
    since_greeting_ += waited;
    if (since_greeting_ < kGreetingInterval) return {};
    since_greeting_ = {};
    channel_.send(FrameKind::Greeting, host_greeting(nonce_));
  } else if (!pinged_ && silence_ > patience_ / 4) {
    pinged_ = true;
    tell(Ping{});
  }
  return {};
}

// A closed channel is the consequence of something that the emulator's owner knows.
Error LabLink::explained(Error error) {
  if (!channel_.closed() || !dead_) return error;
  for (int step = 0; step < kDeathSteps; ++step) {
    if (const auto death = dead_()) return Error::lab(*death);
    ::poll(nullptr, 0, static_cast<int>(kDeathStep.count()));
  }
  return error;
}

Result<void> LabLink::handle(const Channel::Message& message) {
  if (message.kind == FrameKind::Greeting) return handle_greeting(message.text);
  if (message.kind == FrameKind::Fault)
    return fail(Error::lab(fmt::format("the lab gave up: {}", printable(message.text, 1000))));
  return handle_reply(
      VMM_TRY_CONTEXT(parse_lab_reply(message.text), "a message of the lab is not understood"));
}

Result<void> LabLink::handle_greeting(const std::string& text) {
  LabGreeting greeting = VMM_TRY_CONTEXT(parse_lab_greeting(text), "the lab's greeting");
  if (++greetings_ > kMaxGreetings) return fail(Error::lab("the lab does nothing but greet"));
  if (greeting.protocol != kLabProtocol)
    return fail(Error::lab(fmt::format("the lab speaks protocol {}, this program protocol {}",
                                       greeting.protocol, kLabProtocol)));
  if (greeting.nonce == nonce_) {
    // Further ones answer the greetings that we sent until we heard the first.
    if (!greeting_) greeting_ = std::move(greeting);
    return {};
  }
  if (greeting_) return fail(Error::lab("the lab has started anew on its own"));
  // It has just begun to listen, and may have missed what we said before.
  if (greeting.nonce.empty()) channel_.send(FrameKind::Greeting, host_greeting(nonce_));
  return {};
}

Result<void> LabLink::handle_reply(LabReply reply) {
  if (std::holds_alternative<Pong>(reply)) {
    ponged_ = true;
    return {};
  }
  if (const auto* exited = std::get_if<Exited>(&reply)) {
    if (!running_) return fail(Error::lab("the lab speaks of the end of a command that never ran"));
    running_ = false;
    exited_ = *exited;
    return {};
  }
  if (!awaiting_) return fail(Error::lab("the lab answers a question that nobody asked"));
  awaiting_ = false;
  if (std::holds_alternative<Started>(reply)) running_ = true;
  if (const auto* file = std::get_if<FileFollows>(&reply)) {
    if (!on_file_) return fail(Error::lab("the lab sends a file that nobody asked for"));
    VMM_TRY(on_file_(*file));
  }
  reply_ = std::move(reply);
  return {};
}

}  // namespace vmm
