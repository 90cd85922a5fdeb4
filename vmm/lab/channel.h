// The channel between the host and the lab: control messages and many streams over one descriptor,
// the same code at both ends. A stream joins a descriptor here to one there. Each direction of it
// has a window of bytes that may be under way, so that a reader who does not read holds up nobody
// but the writer of that stream, and the memory needed has a bound.
#pragma once

#include <poll.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/descriptors.h"
#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/extents.h"
#include "vmm/lab/frame.h"

namespace vmm {

constexpr std::uint32_t kStreamWindow = 256 * 1024;

// How a stream ended, for whoever opened it.
struct StreamEnd {
  std::uint64_t taken = 0;  // bytes that went into the sink
  std::uint64_t given = 0;  // bytes that came from the source
  int source_errno = 0;     // of a read() that failed
  int sink_errno = 0;       // of a write() that failed
  bool reset = false;       // by either side: not everything arrived
};

struct StreamSpec {
  Fd source;      // what is read here goes to the other side; none: end of file at once
  Endpoint sink;  // gets what the other side sends; none: the other side may send nothing
  std::uint64_t source_limit = std::numeric_limits<std::uint64_t>::max();  // then end of file
  std::uint64_t sink_limit = std::numeric_limits<std::uint64_t>::max();    // more is an error
  std::function<void(const StreamEnd&)> done = {};  // called once, at the end of both directions
  bool later = false;                               // attach() brings the descriptors
  // The stream is these parts of the file that the source, or the sink, is.
  std::optional<ExtentWalk> source_parts = {};
  std::optional<ExtentWalk> sink_parts = {};
};

class Channel {
 public:
  struct Message {
    FrameKind kind = FrameKind::Control;  // or Greeting, Fault
    std::string text;
  };
  // What is called for each message, in order with the streams. Its error ends the channel.
  using Handler = std::function<Result<void>(const Message&)>;

  // `fd` is non-blocking and not owned. `name` and `noise` are FrameReader's. Whoever uses a
  // channel has SIGPIPE blocked or ignored.
  Channel(int fd, std::string name, std::size_t noise = std::numeric_limits<std::size_t>::max());

  void send(FrameKind kind, std::string_view text);  // Greeting, Fault
  void send_control(std::string_view json);          // in as many parts as it takes

  // Whether `id` may be opened: streams are numbered upwards, from 1.
  bool can_open(std::uint32_t id) const { return id > highest_; }
  // Begins stream `id`, which can_open(). The other side does the same.
  void open(std::uint32_t id, StreamSpec spec);
  // Gives its descriptors to a stream that was opened for `later`; nothing if it has ended since.
  void attach(std::uint32_t id, Fd source, Endpoint sink);
  bool is_open(std::uint32_t id) const { return streams_.contains(id); }
  // Neither sends nor takes any more of it. `done` is called when the other side agrees.
  void reset(std::uint32_t id);
  // What is in the source now is all there is: the next time it has nothing is its end.
  void drain(std::uint32_t id);
  // A new session: drops all streams without a word (their `done` is not called), numbers anew.
  void restart();
  // True once the other side has closed the channel; serve() has failed with that.
  bool closed() const { return closed_; }

  // What poll() is to wait for, appended. The result goes to serve().
  void want(std::vector<pollfd>& polled) const;
  // Moves what can be moved. Errors of kind Lab: the other side closed the channel, broke the
  // rules, or `handler` failed. `heard` becomes true when anything arrived.
  Result<void> serve(std::span<const pollfd> polled, const Handler& handler, bool& heard);
  // Writes what is queued and can be written at once.
  Result<void> flush();
  bool has_queued() const { return !queue_.empty(); }

 private:
  struct Stream {
    StreamSpec spec;
    StreamEnd end;
    std::vector<std::uint8_t> inbound;  // came and was not yet written to the sink
    std::size_t inbound_begin = 0;
    std::uint32_t credit = kStreamWindow;   // bytes we may send
    std::uint32_t allowed = kStreamWindow;  // bytes the other side may send
    std::uint32_t consumed = 0;             // to be granted anew
    bool sent_end = false;                  // Eof or Reset
    bool sent_reset = false;
    bool got_end = false;  // Eof or Reset
    bool has_sink = false;
    bool draining = false;
    bool sink_ended = false;  // no more will be written to the sink
  };
  using Streams = std::map<std::uint32_t, Stream>;

  void append(FrameKind kind, std::uint32_t stream, std::span<const std::uint8_t> payload);
  Result<void> read_frames(const Handler& handler, bool& heard);
  Result<void> handle(const Frame& frame, const Handler& handler);
  Result<void> handle_stream(const Frame& frame);
  Result<void> take_data(Stream& stream, const Frame& frame);
  bool wants_source(const Stream& stream) const;
  static bool wants_sink(const Stream& stream);
  void pump_source(std::uint32_t id, Stream& stream);
  bool read_source(std::uint32_t id, Stream& stream);
  void pump_sink(std::uint32_t id, Stream& stream);
  void finish_sink(Stream& stream);
  void reset(std::uint32_t id, Stream& stream);
  void end_source(std::uint32_t id, Stream& stream);
  void remove_ended();
  Error broken(std::string_view what) const;

  int fd_;
  std::string name_;
  FrameReader reader_;
  FrameWriter writer_;
  std::vector<std::uint8_t> queue_;  // frames not yet written
  std::size_t queue_begin_ = 0;
  std::string partial_;  // a control message whose last part is still to come
  Streams streams_;
  std::uint32_t highest_ = 0;  // of the streams so far
  bool closed_ = false;
};

}  // namespace vmm
