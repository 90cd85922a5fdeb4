#include "vmm/lab/session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <set>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/lab/inputs.h"
#include "vmm/lab/link.h"
#include "vmm/lab/output_file.h"
#include "vmm/lab/socket_relay.h"

namespace vmm {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

constexpr std::uint64_t kLargestOutput = std::uint64_t{4} << 30;  // what a disk here may get
constexpr std::size_t kAskBytes = 256 * 1024;                     // of paths in one question
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
  struct Target {
    std::string path;  // on the host
    std::string in_lab;
  };

  Result<LabExit> execute_guarded(const LabCommand& command, const LabStreams& streams);
  Result<void> bring_in(const std::vector<Input>& inputs);
  Result<void> bring_file(const InputFile& file);
  Result<std::vector<const InputFile*>> missing_files(const std::vector<const InputFile*>& files);
  Result<void> make_place(const Target& target);
  Result<void> start(const LabCommand& command, const LabStreams& streams);
  Result<void> wait_for_exit();
  Result<void> wait_for_streams(const std::vector<std::uint32_t>& streams, bool bounded);
  Result<void> bring_out(const Target& target);
  void want(std::vector<pollfd>& polled) const;
  Result<void> serve(const std::vector<pollfd>& polled);

  LabLink link_;
  CancelPatience cancelled_;
  std::optional<Error> stuck_;  // a command that cannot be ended
  LabHello hello_;
  int cancel_ = -1;
  std::optional<Clock::time_point> cancelled_at_;
  std::optional<SocketRelay> relay_;
  std::vector<std::uint32_t> streams_;     // in, out and err of the command
  std::optional<std::uint32_t> incoming_;  // the stream of the file that is being put
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
  // A long file is not waited for.
  if (cancelled_at_ && incoming_) link_.channel().reset(*incoming_);
  return {};
}

Result<LabExit> Session::execute_guarded(const LabCommand& command, const LabStreams& streams) {
  std::vector<Input> inputs;
  std::vector<Target> outputs;
  std::vector<SocketRelay::Path> sockets;
  std::set<std::string> both;  // files that the command reads and writes: not removed before
  for (const PathUse& use : command.paths) {
    Target target{use.path.starts_with('/') ? use.path : command.directory + "/" + use.path,
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
  relay_.emplace(link_);
  for (const auto& socket : sockets) VMM_TRY(relay_->listen(socket));

  VMM_TRY(link_.demand(MakeDirectory{lab_path(command.directory, "/"), {}, {}}));
  VMM_TRY(bring_in(inputs));
  for (const Target& output : outputs)
    if (!both.contains(output.in_lab)) VMM_TRY(make_place(output));
  for (const auto& socket : sockets) VMM_TRY(make_place({socket.path, socket.in_lab}));
  if (cancelled_at_) return LabExit{{}, SIGTERM};

  VMM_TRY(start(command, streams));
  VMM_TRY(wait_for_exit());
  const Exited exited = *link_.exited();
  link_.channel().reset(streams_[0]);
  VMM_TRY(wait_for_streams({streams_[1], streams_[2]}, false));
  relay_->stop_listening();
  VMM_TRY(wait_for_streams(relay_->streams(), true));
  for (const Target& output : outputs) VMM_TRY(bring_out(output));
  return LabExit{exited.code, exited.signal};
}

Result<void> Session::bring_in(const std::vector<Input>& inputs) {
  std::vector<const InputFile*> files;
  for (const Input& input : inputs) {
    if (cancelled_at_) return {};
    if (const auto* directory = std::get_if<InputDirectory>(&input))
      VMM_TRY(link_.demand(MakeDirectory{directory->path, directory->mode, directory->names}));
    else if (const auto* link = std::get_if<InputLink>(&input))
      VMM_TRY(link_.demand(MakeLink{link->path, link->target}));
    else
      files.push_back(&std::get<InputFile>(input));
  }
  for (const InputFile* file : VMM_TRY(missing_files(files))) {
    if (cancelled_at_) return {};
    VMM_TRY(bring_file(*file));
  }
  return {};
}

Result<std::vector<const InputFile*>> Session::missing_files(
    const std::vector<const InputFile*>& files) {
  std::vector<const InputFile*> missing;
  for (std::size_t begin = 0; begin < files.size();) {
    AskMissing ask;
    std::size_t bytes = 0;
    for (std::size_t i = begin; i < files.size() && bytes < kAskBytes; ++i) {
      const InputFile& file = *files[i];
      ask.files.push_back({file.path, file.sha256, file.status.st_mode & 07777});
      bytes += 2 * file.path.size() + 128;
    }
    link_.ask(ask);
    const LabReply reply = VMM_TRY(link_.answer());
    const auto* answer = std::get_if<MissingFiles>(&reply);
    if (answer == nullptr) return fail(Error::lab("the lab does not say which files it misses"));
    // In order and without repetition, so that a lab cannot ask for a file for ever.
    std::optional<std::uint32_t> last;
    for (const std::uint32_t index : answer->indices) {
      if (index >= ask.files.size() || (last && index <= *last))
        return fail(Error::lab("the lab misses files that nobody spoke of"));
      last = index;
      missing.push_back(files[begin + index]);
    }
    begin += ask.files.size();
  }
  return missing;
}

Result<void> Session::bring_file(const InputFile& file) {
  StreamSpec spec;
  spec.source = VMM_TRY(Fd::open(file.source, O_RDONLY | O_NONBLOCK));
  struct stat status {};
  if (::fstat(spec.source.get(), &status) != 0 || !is_unchanged(file, status))
    return fail(Error::usage(
        fmt::format("{} changed while it was brought into the lab", printable(file.source))));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  // A disk image is sent without its holes.
  const std::vector<Extent> extents = data_extents(spec.source.get(), size);
  const std::uint64_t bytes = bytes_in(extents);
  const bool holes = bytes < size && size <= kLargestSparseFile;
  spec.source_limit = holes ? bytes : size;
  if (holes)
    spec.source_parts.emplace(extents);
  else if (::lseek(spec.source.get(), 0, SEEK_SET) != 0)
    return fail(
        Error::system(ErrorKind::Usage, fmt::format("read {}", printable(file.source)), errno));
  const auto end = std::make_shared<std::optional<StreamEnd>>();
  spec.done = [end](const StreamEnd& how) { *end = how; };

  incoming_ = link_.new_stream();
  PutFile put{{file.path, file.sha256, status.st_mode & 07777}, size, *incoming_};
  if (holes) put.extents = extents;
  link_.ask(put);
  link_.channel().open(*incoming_, std::move(spec));
  auto answer = link_.answer();
  incoming_.reset();
  if (!answer) return fail(std::move(answer).error());
  const LabReply& reply = *answer;
  if (std::holds_alternative<Done>(reply) || cancelled_at_) return {};
  if (*end && !(*end)->reset && (*end)->given != (holes ? bytes : size))
    return fail(Error::system(ErrorKind::Usage, fmt::format("read {}", printable(file.source)),
                              (*end)->source_errno,
                              "it changed while it was brought into the lab"));
  const auto* failed = std::get_if<Failed>(&reply);
  return fail(Error::lab(failed != nullptr ? printable(failed->text, 1000)
                                           : "the lab does not say whether it has a file"));
}

// Where the command will leave something: a folder if there is one here, and nothing of old.
Result<void> Session::make_place(const Target& target) {
  const auto here = std::filesystem::path(target.path).parent_path();
  struct stat status {};
  if (::stat(here.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
    VMM_TRY(link_.demand(
        MakeDirectory{std::filesystem::path(target.in_lab).parent_path().native(), {}, {}}));
  return link_.demand(RemoveFile{target.in_lab});
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

Result<void> Session::bring_out(const Target& target) {
  const std::uint32_t stream = link_.new_stream();
  const auto end = std::make_shared<std::optional<StreamEnd>>();
  std::optional<Result<OutputFile>> file;
  std::uint64_t announced = 0;
  const bool holes = OutputFile::takes_holes(target.path);
  link_.on_file([&](const FileFollows& follows) -> Result<void> {
    announced = follows.extents ? bytes_in(*follows.extents) : follows.size;
    if (announced > kLargestOutput)
      return fail(Error::lab("the lab sends a file that is larger than it was allowed"));
    if (follows.extents && !holes)
      return fail(Error::lab("the lab sends parts of a file that has no holes"));
    file.emplace(OutputFile::begin(target.path));
    StreamSpec spec;
    spec.done = [end](const StreamEnd& how) { *end = how; };
    spec.sink_limit = announced;
    if (*file) (**file).restrict_to(follows.mode);
    if (follows.extents) {
      spec.sink_parts.emplace(*follows.extents);
      if (*file)
        if (auto sized = (**file).set_size(follows.size); !sized)
          file.emplace(fail(std::move(sized).error()));
    }
    spec.later = !*file;
    if (*file) spec.sink = (**file).take_sink();
    link_.channel().open(stream, std::move(spec));
    if (!*file) link_.channel().reset(stream);
    return {};
  });
  link_.ask(GetFile{target.in_lab, kLargestOutput, stream, holes});
  auto answer = link_.answer();
  link_.on_file({});
  if (!answer) return fail(std::move(answer).error());
  const LabReply& reply = *answer;
  if (std::holds_alternative<Absent>(reply)) return {};
  if (const auto* failed = std::get_if<Failed>(&reply))
    return fail(Error::lab(printable(failed->text, 1000)));
  if (!file) return fail(Error::lab("the lab does not say whether it has a file"));
  while (!*end) VMM_TRY(link_.step());
  if (!*file) return fail(file->error());
  if ((*end)->sink_errno != 0)
    return fail(Error::system(ErrorKind::Usage, fmt::format("write {}", printable(target.path)),
                              (*end)->sink_errno));
  if ((*end)->reset || (*end)->taken != announced)
    return fail(Error::lab(fmt::format("{} came from the lab with {} of its {} bytes",
                                       printable(target.path), (*end)->taken, announced)));
  return (**file).finish();
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
