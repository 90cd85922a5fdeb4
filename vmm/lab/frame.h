// Frames: what the bytes between the host and the lab are made of. Each is numbered and has a
// checksum, so that a byte lost or changed on the way is noticed and never understood as something
// else. The table of the layout is in README.md.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

enum class FrameKind : std::uint8_t {
  Greeting = 1,     // JSON; begins the numbering of its direction anew
  ControlPart = 2,  // JSON that goes on in the next Control or ControlPart
  Control = 3,      // JSON, or its last part
  Data = 4,         // bytes of a stream
  Eof = 5,          // the sender has no more bytes for the stream
  Window = 6,       // u32: so many more bytes of the stream may be sent
  Reset = 7,        // the sender neither sends nor takes any more of the stream
  Fault = 8,        // text: the sender gives up on the channel, and why
};

constexpr std::size_t kFrameHeader = 24;
constexpr std::size_t kMaxPayload = 32 * 1024;

struct Frame {
  FrameKind kind = FrameKind::Control;
  std::uint32_t stream = 0;
  std::span<const std::uint8_t> payload;  // valid until the reader's next room()

  std::string_view text() const {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

// Numbers frames and appends their bytes to a buffer.
class FrameWriter {
 public:
  // `payload` has at most kMaxPayload bytes.
  void append(std::vector<std::uint8_t>& bytes, FrameKind kind, std::uint32_t stream,
              std::span<const std::uint8_t> payload);

 private:
  std::uint32_t next_ = 0;
};

// Finds the frames in what was read. Until the first greeting it skips what is none (a firmware's
// and a kernel's words, the rest of an earlier session); from then on every byte must be right.
class FrameReader {
 public:
  // `name` stands at the beginning of the errors: "the channel to the lab". More than `noise` bytes
  // before the first greeting are an error.
  explicit FrameReader(std::string name,
                       std::size_t noise = std::numeric_limits<std::size_t>::max());

  // Where the next bytes go; never empty while next() was asked until it had nothing more.
  std::span<std::uint8_t> room();
  // `count` bytes were put into room().
  void add(std::size_t count);
  // The next frame, nothing when it is not complete yet, an error of kind Lab for bytes that are no
  // frame, a wrong checksum, and a number out of order. After an error the reader is of no use.
  Result<std::optional<Frame>> next();

 private:
  Result<std::optional<Frame>> next_greeting();
  Error garbled(std::string_view what) const;

  std::string name_;
  std::size_t noise_;  // bytes that may still be skipped
  std::vector<std::uint8_t> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool greeted_ = false;
  std::uint32_t last_ = 0;  // number of the last frame
};

}  // namespace vmm
