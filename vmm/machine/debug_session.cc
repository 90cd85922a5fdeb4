#include "vmm/machine/debug_session.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

// A step takes a tenth of a millisecond: who needs that much longer sleeps.
constexpr std::chrono::milliseconds kTurn{20};

// Or its end.
bool has_input(int fd) {
  pollfd entry{fd, POLLIN, 0};
  const timespec now{};
  return ::ppoll(&entry, 1, &now, nullptr) > 0;
}

}  // namespace

Result<std::unique_ptr<DebugSession>> DebugSession::open(const std::optional<DebugAddress>& address,
                                                         DebugTarget& target,
                                                         MonitorMachine& machine, gdb::Arch arch) {
  const DebugSupport support = target.debug_support();
  if (!support.step)
    return fail(Error::host(
        "--gdb, --catch: this host's KVM has no KVM_CAP_SET_GUEST_DEBUG2 (Linux 5.13) with "
        "single steps"));
  Listener listener;
  std::string name;
  const bool on_stdio = address && address->kind == DebugAddress::Kind::Stdio;
  if (address && !on_stdio) {
    listener = VMM_TRY(listen_at(*address));
    name = remote_name(*address, listener);
  }
  return std::unique_ptr<DebugSession>(
      new DebugSession(std::move(listener), std::move(name), on_stdio, target, machine, arch));
}

DebugSession::DebugSession(Listener listener, std::string name, bool on_stdio, DebugTarget& target,
                           MonitorMachine& machine, gdb::Arch arch)
    : listener_(std::move(listener)),
      on_stdio_(on_stdio),
      name_(std::move(name)),
      target_(target),
      machine_(machine),
      paging_(PagingFeatures::from(target.cpuid())),
      debugger_(target, paging_),
      stub_(target, debugger_,
            {.arch = arch,
             .paging = paging_,
             .started_us = on_stdio_,
             .monitor = [this](std::string_view command, unsigned vcpu) {
               return monitor(command, vcpu).text;
             }}) {
  if (on_stdio_) client_ = Client{.owned = Fd(), .in = STDIN_FILENO, .out = STDOUT_FILENO};
}

MonitorAnswer DebugSession::monitor(std::string_view command, unsigned vcpu) {
  return run_monitor({.target = target_,
                      .machine = machine_,
                      .debugger = &debugger_,
                      .paging = paging_,
                      .vcpu = vcpu,
                      .stop = stop_},
                     command);
}

MonitorAnswer DebugSession::peek(std::string_view command, unsigned vcpu) {
  const StopReason before = std::exchange(stop_, {.kind = StopReason::Kind::Asked});
  MonitorAnswer answer;
  debugger_.peek([&] { answer = monitor(command, vcpu); });
  stop_ = before;
  return answer;
}

Result<void> DebugSession::run() {
  return debugger_.go(std::vector<GoOn>(target_.vcpu_count(), {.how = GoOn::How::Run}));
}

void DebugSession::add_poll(std::vector<pollfd>& fds) const {
  if (listener_) fds.push_back({listener_.get(), POLLIN, 0});
  if (!client_) return;
  // What is not taken yet is not asked for more.
  const bool busy = !output_.empty();
  const int hears = busy ? 0 : POLLIN;
  const int both = busy && client_->in == client_->out ? POLLOUT : 0;
  fds.push_back({client_->in, static_cast<short>(hears | both | POLLRDHUP), 0});
  // Also while there is nothing to say: a pipe without a reader is an error at any time.
  if (client_->in != client_->out)
    fds.push_back({client_->out, static_cast<short>(busy ? POLLOUT : 0), 0});
}

Result<void> DebugSession::serve(const std::vector<pollfd>& fds) {
  bool knocks = false;
  for (const pollfd& fd : fds) {
    if (fd.revents == 0) continue;
    knocks = knocks || (listener_ && fd.fd == listener_.get());
    if (!client_ || (fd.fd != client_->in && fd.fd != client_->out)) continue;
    if ((fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
      VMM_TRY(hear_last_words());
    else if ((fd.events & POLLOUT) != 0)
      send();
    else
      VMM_TRY(receive());
  }
  // Last, so that whoever connects again is not turned away for the connection that is over.
  if (knocks) VMM_TRY(accept());
  return {};
}

// What it sent before it hung up is still carried out.
Result<void> DebugSession::hear_last_words() {
  output_.clear();
  constexpr int kMostReads = 64;
  for (int i = 0; client_ && i < kMostReads; ++i) VMM_TRY(receive());
  return client_ ? lose_client() : Result<void>();
}

// One at a time: another one is turned away.
Result<void> DebugSession::accept() {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || client_) return {};
  const int number = fd.get();
  client_ = Client{.owned = std::move(fd), .in = number, .out = number};
  output_.clear();
  stub_.new_client();
  VMM_TRY(stop_guest());
  return {};
}

Result<std::optional<DebugReport>> DebugSession::stop_guest() {
  if (!debugger_.running()) return std::optional<DebugReport>();
  VMM_TRY(target_.pause());
  stop_ = {.kind = StopReason::Kind::Asked};
  return debugger_.interrupted();
}

Result<void> DebugSession::halt() {
  VMM_TRY(stop_guest());
  return {};
}

Result<void> DebugSession::interrupt() {
  if (const auto report = VMM_TRY(stop_guest()))
    tell(*report);
  else
    stub_.interrupted();
  return {};
}

void DebugSession::tell(const DebugReport& report) {
  stop_ = {.kind = StopReason::Kind::Reported, .report = report};
  stub_.stopped(report);
}

Result<void> DebugSession::receive() {
  // Descriptors that are not ours may block.
  if (on_stdio_ && !has_input(client_->in)) return {};
  std::array<std::uint8_t, 64 * 1024> bytes;
  const ssize_t n = ::read(client_->in, bytes.data(), bytes.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return {};
  if (n <= 0) return lose_client();
  stub_.receive(std::span(bytes).first(static_cast<std::size_t>(n)));
  output_ += stub_.take_output();
  VMM_TRY(do_wish());
  output_ += stub_.take_output();
  send();
  // gdb shows no reasons.
  if (const std::string note = stub_.take_note(); !note.empty() && takes_output(STDERR_FILENO, 0))
    fmt::print(stderr, "vmm: gdb: {}\n", note);
  return {};
}

Result<void> DebugSession::do_wish() {
  switch (stub_.take_wish()) {
    case gdb::Wish::Nothing:
      return {};
    case gdb::Wish::Interrupt:
      let_go_ = false;
      return interrupt();
    case gdb::Wish::Detach:
      let_go_ = true;
      return debugger_.running() ? Result<void>() : run();
    case gdb::Wish::Kill:
      machine_.quit();
      return {};
  }
  return {};
}

// A client that goes without a word leaves no breakpoint behind; the guest goes on if it ran, and
// waits for another client if it was stopped. On stdio no other one can come: that ends the run,
// unless it was told to go on alone.
Result<void> DebugSession::lose_client() {
  const bool ran = debugger_.running();
  client_.reset();
  output_.clear();
  VMM_TRY(stop_guest());
  debugger_.remove_all();
  if (on_stdio_ && !let_go_) {
    if (takes_output(STDERR_FILENO, 0))
      fmt::print(stderr, "vmm: gdb: the debugger has closed standard input: the run ends\n");
    machine_.hang_up();
    return {};
  }
  if (ran) return run();
  return {};
}

Result<bool> DebugSession::take_interrupt() {
  if (!on_stdio_ || !client_) return false;
  if (!debugger_.running()) return true;
  VMM_TRY(interrupt());
  output_ += stub_.take_output();
  send();
  return true;
}

// Standard output belongs to others as well, so that O_NONBLOCK is not for us to set: a pipe or a
// socket that poll() calls writable takes PIPE_BUF bytes without blocking.
void DebugSession::send() {
  while (!output_.empty() && (!on_stdio_ || takes_output(client_->out, 0))) {
    const std::size_t most = on_stdio_ ? std::size_t{PIPE_BUF} : output_.size();
    const ssize_t n = ::write(client_->out, output_.data(), std::min(output_.size(), most));
    // A client that has gone is found out by the next read.
    if (n <= 0) {
      if (n < 0 && errno != EAGAIN && errno != EINTR) output_.clear();
      return;
    }
    output_.erase(0, static_cast<std::size_t>(n));
  }
}

Result<void> DebugSession::stopped(unsigned vcpu, const DebugStop& stop) {
  if (const auto report = VMM_TRY(debugger_.stopped(vcpu, stop))) VMM_TRY(pass_on(*report));
  return {};
}

Result<void> DebugSession::pass_on(const DebugReport& report) {
  // Whoever connects finds the guest where --catch has stopped it.
  if (!client_ && report.breakpoint.catching) {
    stop_ = {.kind = StopReason::Kind::Reported, .report = report};
    return {};
  }
  if (!client_) return run();
  tell(report);
  output_ += stub_.take_output();
  send();
  return {};
}

Result<void> DebugSession::machine_was_reset() {
  const bool ran = debugger_.running(), stepped = debugger_.steps_for_user();
  debugger_.machine_was_reset();
  stub_.machine_was_reset();
  stop_ = {};
  turn_.reset();
  if (!ran) return {};
  return stepped ? pass_on({.why = DebugReport::Why::Stepped, .vcpu = 0}) : run();
}

bool DebugSession::turn_is_overdue() {
  const auto now = std::chrono::steady_clock::now();
  const auto before = std::exchange(turn_, debugger_.turn());
  if (turn_ != before) turn_since_ = now;
  return turn_ && now - turn_since_ >= kTurn;
}

std::chrono::nanoseconds DebugSession::patience() const {
  return debugger_.turn() ? kTurn : std::chrono::nanoseconds::max();
}

Result<void> DebugSession::pass_turn() {
  if (const auto report = VMM_TRY(debugger_.pass_turn())) VMM_TRY(pass_on(*report));
  return {};
}

Result<void> DebugSession::died(unsigned vcpu, int exit_code) {
  stub_.died(vcpu, exit_code);
  VMM_TRY(stop_guest());
  output_ += stub_.take_output();
  if (client_) send();
  return {};
}

void DebugSession::ended(int exit_code, double seconds) {
  if (!client_) return;
  stub_.ended(exit_code);
  output_ += stub_.take_output();
  while (!output_.empty() && takes_output(client_->out, seconds)) send();
}

}  // namespace vmm
