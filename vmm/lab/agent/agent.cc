#include "vmm/lab/agent/agent.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "vmm/base/text.h"

namespace vmm {

namespace {

constexpr int kConnectInterval = 100;  // ms between two tries to reach a socket
constexpr int kFarewell = 1000;        // ms for the host to take the reason why we give up
constexpr std::size_t kMaxConnections = 64;

// Puts the root before whatever path a request has.
struct PlaceUnder {
  const std::string& root;

  void operator()(AskMissing& ask) const {
    for (FileDigest& file : ask.files) (*this)(file);
  }
  void operator()(PutFile& put) const { (*this)(put.file); }
  void operator()(StartCommand& start) const { start.directory.insert(0, root); }
  template <typename Request>
  void operator()(Request& request) const {
    if constexpr (requires { request.path; }) request.path.insert(0, root);
  }
};

}  // namespace

Result<std::unique_ptr<Agent>> Agent::make(int channel, LabGreeting about, std::string root) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  Fd children(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!children) return fail(Error::system(ErrorKind::Lab, "signalfd", errno));
  return std::unique_ptr<Agent>(
      new Agent(channel, std::move(children), std::move(about), std::move(root)));
}

Agent::Agent(int channel, Fd children, LabGreeting about, std::string root)
    : fd_(channel),
      children_(std::move(children)),
      about_(std::move(about)),
      root_(std::move(root)) {}

Agent::~Agent() { stop_command(); }

void Agent::start_session() {
  stop_command();
  connections_.clear();
}

Agent::Ending Agent::serve() {
  channel_.emplace(fd_, "the channel from the host");
  about_.nonce.clear();
  channel_->send(FrameKind::Greeting, to_json(about_));
  while (!power_off_) {
    const auto served = wait_and_serve();
    if (served) continue;
    if (channel_->closed()) break;
    give_up(served.error());
  }
  start_session();
  return power_off_ ? Ending::PowerOff : Ending::Closed;
}

// Tells the host, and goes back to where only a greeting counts.
void Agent::give_up(const Error& error) {
  start_session();
  channel_->restart();
  channel_->send(FrameKind::Fault, error.text());
  while (channel_->flush() && channel_->has_queued()) {
    pollfd polled{fd_, POLLOUT, 0};
    if (::poll(&polled, 1, kFarewell) <= 0) break;
  }
  channel_.emplace(fd_, "the channel from the host");
}

Result<void> Agent::wait_and_serve() {
  std::vector<pollfd> polled;
  channel_->want(polled);
  polled.push_back({children_.get(), POLLIN, 0});
  const int timeout = connections_.empty() ? -1 : kConnectInterval;
  const int ready = ::poll(polled.data(), polled.size(), timeout);
  if (ready < 0 && errno != EINTR) return fail(Error::system(ErrorKind::Lab, "poll", errno));
  if (ready < 0) return {};
  bool heard = false;
  VMM_TRY(channel_->serve(
      polled, [this](const auto& message) { return handle(message); }, heard));
  if (polled.back().revents != 0) reap_children();
  try_connections();
  return channel_->flush();
}

void Agent::reap_children() {
  signalfd_siginfo info;
  while (::read(children_.get(), &info, sizeof info) > 0) {
  }
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
    if (command_ && pid == command_->pid) command_ended(status);
}

void Agent::command_ended(int status) {
  // Whatever it has left running is of no use to the next command.
  ::kill(-command_->pid, SIGKILL);
  channel_->reset(command_->in);
  channel_->drain(command_->out);
  channel_->drain(command_->err);
  command_.reset();
  for (const PendingConnection& connection : std::exchange(connections_, {}))
    channel_->reset(connection.stream);
  Exited exited;
  if (WIFSIGNALED(status))
    exited.signal = WTERMSIG(status);
  else
    exited.code = WEXITSTATUS(status);
  reply(exited);
}

void Agent::kill_command(int signal) {
  if (command_) ::kill(-command_->pid, signal);
}

void Agent::stop_command() {
  if (!command_) return;
  kill_command(SIGKILL);
  while (::waitpid(command_->pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  command_.reset();
}

void Agent::reply(const LabReply& reply) { channel_->send_control(to_json(reply)); }

void Agent::reply(const Result<void>& result) {
  if (result)
    reply(Done{});
  else
    reply(Failed{result.error().text()});
}

Result<void> Agent::handle(const Channel::Message& message) {
  if (message.kind == FrameKind::Fault)
    return fail(Error::lab(fmt::format("the host gave up: {}", printable(message.text))));
  if (message.kind == FrameKind::Control)
    return handle_request(VMM_TRY(parse_lab_request(message.text)));
  const HostGreeting greeting = VMM_TRY(parse_host_greeting(message.text));
  start_session();
  channel_->restart();
  if (greeted_) greeted_(greeting);
  about_.nonce = greeting.nonce;
  channel_->send(FrameKind::Greeting, to_json(about_));
  return {};
}

Result<void> Agent::handle_request(LabRequest request) {
  if (!root_.empty()) std::visit(PlaceUnder{root_}, request);
  if (const auto* ask = std::get_if<AskMissing>(&request))
    reply(MissingFiles{files_.missing(ask->files)});
  else if (const auto* make = std::get_if<MakeDirectory>(&request))
    reply(make_lab_directory(*make));
  else if (const auto* link = std::get_if<MakeLink>(&request))
    reply(make_lab_link(*link));
  else if (const auto* remove = std::get_if<RemoveFile>(&request))
    reply(remove_lab_file(*remove));
  else if (const auto* put_request = std::get_if<PutFile>(&request))
    return put(*put_request);
  else if (const auto* get_request = std::get_if<GetFile>(&request))
    return get(*get_request);
  else if (const auto* start_request = std::get_if<StartCommand>(&request))
    return start(*start_request);
  else if (const auto* connection = std::get_if<ConnectSocket>(&request))
    return connect(*connection);
  else if (const auto* kill = std::get_if<KillCommand>(&request))
    kill_command(kill->signal);
  else if (std::holds_alternative<Ping>(request))
    reply(Pong{});
  else
    power_off_ = true;
  return {};
}

Result<void> Agent::open_stream(std::uint32_t id, StreamSpec spec) {
  if (!channel_->can_open(id))
    return fail(Error::lab(fmt::format("the host opened stream {} out of turn", id)));
  channel_->open(id, std::move(spec));
  return {};
}

Result<void> Agent::refuse_stream(std::uint32_t id) {
  StreamSpec spec;
  spec.later = true;
  VMM_TRY(open_stream(id, std::move(spec)));
  channel_->reset(id);
  return {};
}

Result<void> Agent::put(const PutFile& request) {
  auto begun = IncomingFile::begin(request.file);
  if (!begun) {
    reply(fail(begun.error()));
    return refuse_stream(request.stream);
  }
  const auto incoming = std::make_shared<IncomingFile>(*std::move(begun));
  const std::uint64_t bytes = request.extents ? bytes_in(*request.extents) : request.size;
  if (request.extents) {
    if (const auto sized = incoming->set_size(request.size); !sized) {
      reply(sized);
      return refuse_stream(request.stream);
    }
  }
  StreamSpec spec;
  spec.sink = {incoming->take_fd(), SinkKind::Plain};
  if (request.extents) spec.sink_parts.emplace(*request.extents);
  spec.sink_limit = bytes;
  spec.done = [this, incoming, file = request.file, size = bytes](const StreamEnd& end) {
    if (end.sink_errno != 0)
      return reply(fail(Error::system(ErrorKind::Lab,
                                      fmt::format("write {} in the lab", printable(file.path)),
                                      end.sink_errno)));
    if (end.reset || end.taken != size)
      return reply(fail(Error::lab(fmt::format("{} came to the lab with {} of its {} bytes",
                                               printable(file.path), end.taken, size))));
    const auto finished = incoming->finish();
    if (finished) files_.remember(file);
    reply(finished);
  };
  return open_stream(request.stream, std::move(spec));
}

Result<void> Agent::get(const GetFile& request) {
  auto file = open_lab_file(request);
  if (!file) {
    reply(Failed{file.error().text()});
  } else if (!*file) {
    reply(Absent{});
  } else {
    reply(FileFollows{(*file)->size, (*file)->mode, (*file)->extents});
    StreamSpec spec;
    spec.source = std::move((*file)->fd);
    spec.source_limit = (*file)->bytes();
    if ((*file)->extents) spec.source_parts.emplace(*(*file)->extents);
    return open_stream(request.stream, std::move(spec));
  }
  return {};
}

Result<void> Agent::start(const StartCommand& request) {
  auto running =
      command_ ? fail(Error::lab("the lab runs another command already")) : start_command(request);
  if (!running) {
    reply(Failed{running.error().text()});
    for (const std::uint32_t stream : {request.in, request.out, request.err})
      VMM_TRY(refuse_stream(stream));
    return {};
  }
  command_ = Command{running->pid, request.in, request.out, request.err};
  reply(Started{});
  StreamSpec in;
  in.sink = std::move(running->in);
  VMM_TRY(open_stream(request.in, std::move(in)));
  StreamSpec out;
  out.source = std::move(running->out);
  VMM_TRY(open_stream(request.out, std::move(out)));
  StreamSpec err;
  err.source = std::move(running->err);
  return open_stream(request.err, std::move(err));
}

Result<void> Agent::connect(const ConnectSocket& request) {
  if (!command_ || connections_.size() >= kMaxConnections) return refuse_stream(request.stream);
  StreamSpec spec;
  spec.later = true;
  VMM_TRY(open_stream(request.stream, std::move(spec)));
  connections_.push_back({request.path, request.stream});
  return {};
}

// The command listens when it gets there, which is perhaps after the host's debugger has connected.
void Agent::try_connections() {
  std::erase_if(connections_, [this](const PendingConnection& connection) {
    if (!channel_->is_open(connection.stream)) return true;
    auto source = connect_unix(connection.path);
    if (!source) return false;
    auto sink = duplicate(source->get());
    if (!sink) return false;
    channel_->attach(connection.stream, *std::move(source), {*std::move(sink), SinkKind::Socket});
    return true;
  });
}

}  // namespace vmm
