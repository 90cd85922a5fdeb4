#include "vmm/lab/session.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <set>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/lab/file_transfer.h"
#include "vmm/lab/inputs.h"
#include "vmm/lab/link.h"
#include "vmm/lab/socket_relay.h"

namespace vmm {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

constexpr seconds kFlushPatience{2};  // for readers here, once the command has ended
constexpr TerminalSize kUsualTerminal{24, 80};

class Session final : public LabSession {
 public:
  Session(const Fd& channel, Death dead, std::chrono::seconds patience,
          const CancelPatience& cancelled)
      : link_(channel.get(), std::move(dead), patience), cancelled_(cancelled) {
    link_.set_guest({[this](auto& polled) { want(polled); },
                     [this](const auto& polled) { return serve(polled); }});
  }

  Result<void> greet() {
    const SigpipeGuard guard;
    const LabGreeting greeting = VMM_TRY(link_.greet());
    hello_ = {printable(greeting.release), printable(greeting.backend)};
    return {};
  }

  const LabHello& hello() const override { return hello_; }
  Result<void> check(std::chrono::seconds limit) override {
    const SigpipeGuard guard;
    return link_.check(limit);
  }
  void set_patience(std::chrono::seconds patience) override { link_.set_patience(patience); }
  bool broken() const override { return link_.broken() || stuck_; }

  Result<LabExit> execute(const LabCommand& command, const LabStreams& streams,
                          int cancel) override {
    const SigpipeGuard guard;
    if (stuck_) return fail(*stuck_);
    link_.wake();
    cancel_ = cancel;
    cancelled_at_.reset();
    auto result = execute_guarded(command, streams);
    cancel_ = -1;
    relay_.reset();
    files_.reset();
    for (const std::uint32_t stream : std::exchange(streams_, {})) link_.channel().reset(stream);
    link_.flush();
    return result;
  }

  void power_off() override {
    const SigpipeGuard guard;
    link_.tell(PowerOff{});
    link_.flush();
  }

 private:
  Result<LabExit> execute_guarded(const LabCommand& command, const LabStreams& streams);
  Result<void> start(const LabCommand& command, const LabStreams& streams);
  Result<void> wait_for_exit();
  Result<void> wait_for_streams(const std::vector<std::uint32_t>& streams, bool bounded);
  void want(std::vector<pollfd>& polled) const;
  Result<void> serve(const std::vector<pollfd>& polled);

  LabLink link_;
  CancelPatience cancelled_;
  std::optional<Error> stuck_;  // a command that cannot be ended
  LabHello hello_;
  int cancel_ = -1;
  std::optional<Clock::time_point> cancelled_at_;
  std::optional<FileTransfer> files_;
  std::optional<SocketRelay> relay_;
  std::vector<std::uint32_t> streams_;  // in, out and err of the command
};

void Session::want(std::vector<pollfd>& polled) const {
  if (cancel_ >= 0 && !cancelled_at_) polled.push_back({cancel_, POLLIN, 0});
  if (relay_) relay_->want(polled);
}

Result<void> Session::serve(const std::vector<pollfd>& polled) {
  if (relay_) VMM_TRY(relay_->serve(polled));
  if (cancel_ < 0 || cancelled_at_) return {};
  for (const pollfd& entry : polled)
    if (entry.fd == cancel_ && entry.revents != 0) cancelled_at_ = Clock::now();
  if (cancelled_at_ && files_) files_->cancel();
  return {};
}

Result<LabExit> Session::execute_guarded(const LabCommand& command, const LabStreams& streams) {
  std::vector<Input> inputs;
  std::vector<FileTransfer::Target> outputs;
  std::vector<SocketRelay::Path> sockets;
  std::set<std::string> both;  // files that the command reads and writes: not removed before
  for (const PathUse& use : command.paths) {
    FileTransfer::Target target{
        use.path.starts_with('/') ? use.path : command.directory + "/" + use.path,
        lab_path(use.path, command.directory)};
    if (use.kind == PathUse::Kind::Input) {
      VMM_TRY(collect_inputs(target.path, target.in_lab, inputs));
      both.insert(target.in_lab);
    } else if (use.kind == PathUse::Kind::Output) {
      outputs.push_back(std::move(target));
    } else {
      sockets.push_back({target.path, target.in_lab});
    }
  }
  files_.emplace(link_);
  relay_.emplace(link_);
  for (const auto& socket : sockets) VMM_TRY(relay_->listen(socket));

  VMM_TRY(link_.demand(MakeDirectory{lab_path(command.directory, "/"), {}, {}}));
  VMM_TRY(files_->bring_in(inputs));
  for (const FileTransfer::Target& output : outputs)
    if (!both.contains(output.in_lab)) VMM_TRY(files_->make_place(output));
  for (const auto& socket : sockets) VMM_TRY(files_->make_place({socket.path, socket.in_lab}));
  if (cancelled_at_) return LabExit{{}, SIGTERM};

  VMM_TRY(start(command, streams));
  VMM_TRY(wait_for_exit());
  const Exited exited = *link_.exited();
  link_.channel().reset(streams_[0]);
  VMM_TRY(wait_for_streams({streams_[1], streams_[2]}, false));
  relay_->stop_listening();
  VMM_TRY(wait_for_streams(relay_->streams(), true));
  for (const FileTransfer::Target& output : outputs) VMM_TRY(files_->bring_out(output));
  return LabExit{exited.code, exited.signal};
}

Result<void> Session::start(const LabCommand& command, const LabStreams& streams) {
  StreamSpec in;
  if (streams.in >= 0) in.source = VMM_TRY(borrow_descriptor(streams.in, false)).fd;
  StreamSpec out;
  out.sink = VMM_TRY(borrow_descriptor(streams.out, true));
  StreamSpec err;
  err.sink = VMM_TRY(borrow_descriptor(streams.err, true));
  streams_ = {link_.new_stream(), link_.new_stream(), link_.new_stream()};
  StartCommand request{command.argv,
                       lab_path(command.directory, "/"),
                       command.environment,
                       streams_[0],
                       streams_[1],
                       streams_[2],
                       {}};
  if (command.terminal) {
    const auto size = terminal_size(streams.out);
    request.terminal = size ? *size : kUsualTerminal;
  }
  const std::string json = to_json(request);
  if (json.size() > kMaxMessage)
    return fail(Error::usage("the command line and environment are too long for the lab"));
  link_.ask(request);
  link_.channel().open(streams_[0], std::move(in));
  link_.channel().open(streams_[1], std::move(out));
  link_.channel().open(streams_[2], std::move(err));
  const LabReply reply = VMM_TRY(link_.answer());
  if (std::holds_alternative<Started>(reply)) return {};
  const auto* failed = std::get_if<Failed>(&reply);
  return fail(Error::lab(failed != nullptr ? printable(failed->text, 1000)
                                           : "the lab does not say whether the command runs"));
}

Result<void> Session::wait_for_exit() {
  std::optional<int> sent;
  while (!link_.exited()) {
    VMM_TRY(link_.step());
    if (!cancelled_at_) continue;
    const auto waited = Clock::now() - *cancelled_at_;
    const int wanted = waited < cancelled_.term ? SIGTERM : SIGKILL;
    if (sent != wanted) link_.tell(KillCommand{wanted});
    sent = wanted;
    if (waited <= cancelled_.kill) continue;
    // It still runs there, and the lab takes one at a time.
    stuck_ = Error::lab("the command in the lab does not end when it is killed");
    return fail(*stuck_);
  }
  return {};
}

Result<void> Session::wait_for_streams(const std::vector<std::uint32_t>& streams, bool bounded) {
  const auto begun = Clock::now();
  const auto open = [this](std::uint32_t stream) { return link_.channel().is_open(stream); };
  while (std::any_of(streams.begin(), streams.end(), open)) {
    if ((bounded || cancelled_at_) && Clock::now() - begun > kFlushPatience) {
      for (const std::uint32_t stream : streams) link_.channel().reset(stream);
      return {};
    }
    VMM_TRY(link_.step());
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<LabSession>> LabSession::open(const Fd& channel, Death dead,
                                                     std::chrono::seconds patience,
                                                     const CancelPatience& cancelled) {
  auto session = std::make_unique<Session>(channel, std::move(dead), patience, cancelled);
  VMM_TRY(session->greet());
  return session;
}

}  // namespace vmm
