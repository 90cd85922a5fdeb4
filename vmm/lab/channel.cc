#include "vmm/lab/channel.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/base/text.h"
#include "vmm/lab/messages.h"

namespace vmm {

namespace {

// Sources are not read while this much waits to be written: more would only wait.
constexpr std::size_t kQueueEnough = 128 * 1024;
// Only a side that sends and never reads makes the other's queue grow this far.
constexpr std::size_t kQueueLimit = 4 * 1024 * 1024;
// What one round reads of the channel at most, so that the rest of the loop has its turn.
constexpr int kReadsPerRound = 8;
constexpr std::uint8_t kControlD = 4;

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

short events_of(std::span<const pollfd> polled, int fd) {
  for (const pollfd& entry : polled)
    if (entry.fd == fd && fd >= 0) return entry.revents;
  return 0;
}

// How many bytes may be read or written where the stream is in its file, or -errno.
long parts_room(std::optional<ExtentWalk>& parts, const Fd& fd, std::uint64_t position) {
  return parts ? parts->move(fd.get(), position) : std::numeric_limits<long>::max();
}

bool try_again(long result) { return result == -EAGAIN || result == -EINTR; }

}  // namespace

Channel::Channel(int fd, std::string name, std::size_t noise)
    : fd_(fd), name_(std::move(name)), reader_(name_, noise) {}

Error Channel::broken(std::string_view what) const {
  return Error::lab(fmt::format("{} is out of order: the other side {}", name_, what));
}

void Channel::append(FrameKind kind, std::uint32_t stream, std::span<const std::uint8_t> payload) {
  if (queue_begin_ > kQueueEnough) {
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(queue_begin_));
    queue_begin_ = 0;
  }
  writer_.append(queue_, kind, stream, payload);
}

void Channel::send(FrameKind kind, std::string_view text) {
  append(kind, 0, bytes_of(text.substr(0, kMaxPayload)));
}

void Channel::send_control(std::string_view json) {
  while (json.size() > kMaxPayload) {
    append(FrameKind::ControlPart, 0, bytes_of(json.substr(0, kMaxPayload)));
    json.remove_prefix(kMaxPayload);
  }
  append(FrameKind::Control, 0, bytes_of(json));
}

void Channel::open(std::uint32_t id, StreamSpec spec) {
  VMM_CHECK(can_open(id), "streams are numbered upwards");
  highest_ = id;
  Stream& stream = streams_[id];
  stream.has_sink = spec.later || spec.sink.fd;
  stream.sink_ended = !stream.has_sink;
  stream.spec = std::move(spec);
  if (stream.spec.later) return;
  if (!stream.spec.source || stream.spec.source_limit == 0) end_source(id, stream);
}

void Channel::attach(std::uint32_t id, Fd source, Endpoint sink) {
  const auto it = streams_.find(id);
  if (it == streams_.end() || it->second.sent_end) return;
  Stream& stream = it->second;
  stream.spec.later = false;
  stream.spec.source = std::move(source);
  stream.spec.sink = std::move(sink);
  if (wants_sink(stream))
    pump_sink(id, stream);
  else if (stream.got_end)
    finish_sink(stream);
}

void Channel::restart() {
  streams_.clear();
  partial_.clear();
  highest_ = 0;
}

void Channel::reset(std::uint32_t id) {
  if (const auto it = streams_.find(id); it != streams_.end()) reset(id, it->second);
}

void Channel::reset(std::uint32_t id, Stream& stream) {
  if (stream.sent_reset) return;
  append(FrameKind::Reset, id, {});
  stream.sent_end = stream.sent_reset = stream.sink_ended = stream.end.reset = true;
  stream.inbound = {};
  stream.inbound_begin = 0;
  stream.spec.source.reset();
  stream.spec.sink.fd.reset();
}

void Channel::drain(std::uint32_t id) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  it->second.draining = true;
  // poll() would not call for a source that has nothing and that somebody still holds open.
  if (wants_source(it->second)) pump_source(id, it->second);
}

bool Channel::wants_source(const Stream& stream) const {
  return stream.spec.source && !stream.sent_end && stream.credit > 0 &&
         queue_.size() - queue_begin_ < kQueueEnough;
}

bool Channel::wants_sink(const Stream& stream) {
  return !stream.sink_ended && stream.spec.sink.fd && stream.inbound_begin < stream.inbound.size();
}

void Channel::want(std::vector<pollfd>& polled) const {
  polled.push_back({fd_, static_cast<short>(has_queued() ? POLLIN | POLLOUT : POLLIN), 0});
  for (const auto& [id, stream] : streams_) {
    if (wants_source(stream)) polled.push_back({stream.spec.source.get(), POLLIN, 0});
    if (wants_sink(stream)) polled.push_back({stream.spec.sink.fd.get(), POLLOUT, 0});
  }
}

Result<void> Channel::serve(std::span<const pollfd> polled, const Handler& handler, bool& heard) {
  // First the descriptors that were polled, while the numbers still mean what they meant then.
  for (auto& [id, stream] : streams_) {
    if (wants_source(stream) &&
        (stream.draining || events_of(polled, stream.spec.source.get()) != 0))
      pump_source(id, stream);
    if (wants_sink(stream) && events_of(polled, stream.spec.sink.fd.get()) != 0)
      pump_sink(id, stream);
  }
  remove_ended();
  // Windows and the like go out before a closed channel is noticed, for what they are worth.
  VMM_TRY(flush());
  if (events_of(polled, fd_) != 0) VMM_TRY(read_frames(handler, heard));
  remove_ended();
  return flush();
}

Result<void> Channel::read_frames(const Handler& handler, bool& heard) {
  for (int round = 0; round < kReadsPerRound; ++round) {
    const auto room = reader_.room();
    const ssize_t count = ::read(fd_, room.data(), room.size());
    if (count < 0 && try_again(-errno)) return {};
    closed_ = count == 0 || (count < 0 && errno == ECONNRESET);
    if (closed_) return fail(Error::lab(fmt::format("{} was closed", name_)));
    if (count < 0)
      return fail(Error::system(ErrorKind::Lab, fmt::format("{}: read", name_), errno));
    reader_.add(static_cast<std::size_t>(count));
    while (const auto frame = VMM_TRY(reader_.next())) {
      heard = true;
      VMM_TRY(handle(*frame, handler));
    }
    if (static_cast<std::size_t>(count) < room.size()) return {};
  }
  return {};
}

Result<void> Channel::flush() {
  while (has_queued()) {
    const ssize_t count = ::write(fd_, queue_.data() + queue_begin_, queue_.size() - queue_begin_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    // The reason why the other side went is perhaps still to be read: leave the verdict to read().
    if (count < 0 && (errno == EPIPE || errno == ECONNRESET)) {
      queue_.clear();
      queue_begin_ = 0;
      return {};
    }
    if (count < 0)
      return fail(Error::system(ErrorKind::Lab, fmt::format("{}: write", name_), errno));
    queue_begin_ += static_cast<std::size_t>(count);
    if (queue_begin_ == queue_.size()) {
      queue_.clear();
      queue_begin_ = 0;
    }
  }
  if (queue_.size() - queue_begin_ > kQueueLimit) return fail(broken("does not read"));
  return {};
}

Result<void> Channel::handle(const Frame& frame, const Handler& handler) {
  switch (frame.kind) {
    case FrameKind::Greeting:
    case FrameKind::Fault:
      return handler({frame.kind, std::string(frame.text())});
    case FrameKind::ControlPart:
    case FrameKind::Control: {
      if (partial_.size() + frame.payload.size() > kMaxMessage)
        return fail(
            broken(fmt::format("sent a message of more than {}", format_size(kMaxMessage))));
      partial_ += frame.text();
      if (frame.kind == FrameKind::ControlPart) return {};
      return handler({FrameKind::Control, std::exchange(partial_, {})});
    }
    case FrameKind::Data:
    case FrameKind::Eof:
    case FrameKind::Window:
    case FrameKind::Reset:
      return handle_stream(frame);
  }
  return {};
}

Result<void> Channel::handle_stream(const Frame& frame) {
  const auto it = streams_.find(frame.stream);
  if (it == streams_.end()) {
    // These two may cross the end of a stream on the way.
    const bool late = frame.kind == FrameKind::Window || frame.kind == FrameKind::Reset;
    if (late && frame.stream != 0 && frame.stream <= highest_) return {};
    return fail(broken(fmt::format("speaks of stream {}, which does not exist", frame.stream)));
  }
  Stream& stream = it->second;
  switch (frame.kind) {
    case FrameKind::Data:
      VMM_TRY(take_data(stream, frame));
      if (wants_sink(stream) && stream.spec.sink.kind != SinkKind::Careful)
        pump_sink(it->first, stream);
      return {};
    case FrameKind::Eof:
      if (stream.got_end) return fail(broken(fmt::format("ended stream {} twice", it->first)));
      stream.got_end = true;
      if (!wants_sink(stream)) finish_sink(stream);
      return {};
    case FrameKind::Window: {
      if (frame.payload.size() != 4)
        return fail(broken(fmt::format("granted stream {} no number", it->first)));
      const auto more = load<std::uint32_t>(frame.payload);
      if (more > kStreamWindow - stream.credit)
        return fail(broken(fmt::format("granted stream {} more than its window", it->first)));
      stream.credit += more;
      return {};
    }
    default:  // Reset. What came before it still goes where it should.
      stream.got_end = stream.end.reset = true;
      if (!stream.sent_end) {
        append(FrameKind::Reset, it->first, {});
        stream.sent_end = true;
        stream.spec.source.reset();
      }
      stream.spec.later = false;
      if (!wants_sink(stream)) finish_sink(stream);
      return {};
  }
}

Result<void> Channel::take_data(Stream& stream, const Frame& frame) {
  const auto size = static_cast<std::uint32_t>(frame.payload.size());
  if (stream.got_end)
    return fail(broken(fmt::format("sent bytes after the end of stream {}", frame.stream)));
  if (!stream.has_sink)
    return fail(
        broken(fmt::format("sent bytes on stream {}, where it only gets some", frame.stream)));
  if (size > stream.allowed)
    return fail(broken(fmt::format("sent more on stream {} than its window", frame.stream)));
  stream.allowed -= size;
  if (stream.sink_ended) return {};
  const std::uint64_t waiting = stream.inbound.size() - stream.inbound_begin;
  if (size > stream.spec.sink_limit - stream.end.taken - waiting)
    return fail(broken(fmt::format("sent more on stream {} than was agreed", frame.stream)));
  stream.inbound.insert(stream.inbound.end(), frame.payload.begin(), frame.payload.end());
  return {};
}

void Channel::pump_source(std::uint32_t id, Stream& stream) {
  // A source that is being drained is read until it has nothing.
  while (read_source(id, stream) && stream.draining && wants_source(stream)) {
  }
}

// True when there may be more to read.
bool Channel::read_source(std::uint32_t id, Stream& stream) {
  std::array<std::uint8_t, kMaxPayload> buffer;
  const std::uint64_t left = stream.spec.source_limit - stream.end.given;
  auto size = static_cast<std::size_t>(
      std::min({std::uint64_t{buffer.size()}, std::uint64_t{stream.credit}, left}));
  const long room = parts_room(stream.spec.source_parts, stream.spec.source, stream.end.given);
  size = std::min(size, static_cast<std::size_t>(std::max(room, 0L)));
  const long count = room < 0 ? room : read_some(stream.spec.source, std::span(buffer).first(size));
  if (try_again(count) && !stream.draining) return false;
  if (count == -EINTR) return true;
  if (count <= 0) {
    // EIO is how the master of a terminal says that nobody has the terminal open any more.
    if (count < 0 && count != -EIO && count != -EAGAIN)
      stream.end.source_errno = static_cast<int>(-count);
    end_source(id, stream);
    return false;
  }
  append(FrameKind::Data, id, std::span(buffer).first(static_cast<std::size_t>(count)));
  stream.credit -= static_cast<std::uint32_t>(count);
  stream.end.given += static_cast<std::uint64_t>(count);
  if (stream.end.given == stream.spec.source_limit) end_source(id, stream);
  return true;
}

void Channel::end_source(std::uint32_t id, Stream& stream) {
  append(FrameKind::Eof, id, {});
  stream.sent_end = true;
  stream.spec.source.reset();
}

void Channel::pump_sink(std::uint32_t id, Stream& stream) {
  while (wants_sink(stream)) {
    auto bytes = std::span<const std::uint8_t>(stream.inbound).subspan(stream.inbound_begin);
    const long room = parts_room(stream.spec.sink_parts, stream.spec.sink.fd, stream.end.taken);
    bytes = bytes.first(std::min(bytes.size(), static_cast<std::size_t>(std::max(room, 0L))));
    const long count = room < 0 ? room : write_some(stream.spec.sink, bytes);
    if (count == -EINTR) continue;
    if (count == -EAGAIN || count == 0) break;
    if (count < 0) {
      stream.end.sink_errno = static_cast<int>(-count);
      reset(id, stream);
      return;
    }
    stream.inbound_begin += static_cast<std::size_t>(count);
    stream.end.taken += static_cast<std::uint64_t>(count);
    stream.consumed += static_cast<std::uint32_t>(count);
    if (stream.spec.sink.kind == SinkKind::Careful) break;  // until poll() has said so again
  }
  if (stream.inbound_begin == stream.inbound.size()) {
    stream.inbound.clear();
    stream.inbound_begin = 0;
    if (stream.got_end) finish_sink(stream);
  } else if (stream.inbound_begin > kStreamWindow / 2) {
    stream.inbound.erase(
        stream.inbound.begin(),
        stream.inbound.begin() + static_cast<std::ptrdiff_t>(stream.inbound_begin));
    stream.inbound_begin = 0;
  }
  if (stream.consumed >= kStreamWindow / 4 && !stream.got_end) {
    std::array<std::uint8_t, 4> payload;
    store(payload, 0, stream.consumed);
    append(FrameKind::Window, id, payload);
    stream.allowed += stream.consumed;
    stream.consumed = 0;
  }
}

void Channel::finish_sink(Stream& stream) {
  if (stream.sink_ended || stream.spec.later) return;
  stream.sink_ended = true;
  if (stream.spec.sink.fd && stream.spec.sink.kind == SinkKind::Socket)
    ::shutdown(stream.spec.sink.fd.get(), SHUT_WR);
  else if (stream.spec.sink.fd && stream.spec.sink.kind == SinkKind::Terminal)
    (void)write_some(stream.spec.sink, std::span(&kControlD, 1));
  stream.spec.sink.fd.reset();
}

void Channel::remove_ended() {
  for (auto it = streams_.begin(); it != streams_.end();) {
    Stream& stream = it->second;
    if (!stream.sent_end || !stream.got_end || !stream.sink_ended) {
      ++it;
      continue;
    }
    const auto done = std::move(stream.spec.done);
    const StreamEnd end = stream.end;
    it = streams_.erase(it);
    if (done) done(end);
  }
}

}  // namespace vmm
