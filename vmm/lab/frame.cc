#include "vmm/lab/frame.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {

namespace {

constexpr std::uint32_t kMagic = 0x62616c56;  // "Vlab"
constexpr std::size_t kMaxGreeting = 4096;    // noise that looks like a header holds up little

// Offsets in the header.
constexpr std::size_t kSequence = 4;
constexpr std::size_t kStream = 8;
constexpr std::size_t kLength = 12;
constexpr std::size_t kKind = 16;
constexpr std::size_t kHeaderCheck = 18;  // so that a wrong length is seen before it is waited for
constexpr std::size_t kChecksum = 20;

std::uint32_t crc(std::span<const std::uint8_t> bytes, std::uint32_t seed = 0) {
  if (bytes.empty()) return seed;  // zlib takes a null pointer for the wish to begin anew
  return static_cast<std::uint32_t>(
      ::crc32(seed, bytes.data(), static_cast<unsigned>(bytes.size())));
}

struct Header {
  std::uint32_t sequence;
  std::uint32_t stream;
  std::size_t length;
  std::uint8_t kind;
};

bool has_magic(std::span<const std::uint8_t> bytes) { return load<std::uint32_t>(bytes) == kMagic; }

bool header_is_whole(std::span<const std::uint8_t> bytes) {
  return load<std::uint16_t>(bytes, kHeaderCheck) ==
         static_cast<std::uint16_t>(crc(bytes.first(kHeaderCheck)));
}

Header header_of(std::span<const std::uint8_t> bytes) {
  return {load<std::uint32_t>(bytes, kSequence), load<std::uint32_t>(bytes, kStream),
          load<std::uint32_t>(bytes, kLength), bytes[kKind]};
}

bool payload_is_whole(std::span<const std::uint8_t> bytes, std::size_t length) {
  const std::uint32_t sum = crc(bytes.subspan(kFrameHeader, length), crc(bytes.first(kChecksum)));
  return load<std::uint32_t>(bytes, kChecksum) == sum;
}

bool is_kind(std::uint8_t kind) {
  return kind >= static_cast<std::uint8_t>(FrameKind::Greeting) &&
         kind <= static_cast<std::uint8_t>(FrameKind::Fault);
}

}  // namespace

void FrameWriter::append(std::vector<std::uint8_t>& bytes, FrameKind kind, std::uint32_t stream,
                         std::span<const std::uint8_t> payload) {
  VMM_CHECK(payload.size() <= kMaxPayload, "a frame's payload is too long");
  const std::size_t at = bytes.size();
  bytes.resize(at + kFrameHeader + payload.size());
  const auto frame = std::span(bytes).subspan(at);
  store(frame, 0, kMagic);
  store(frame, kSequence, next_++);
  store(frame, kStream, stream);
  store(frame, kLength, static_cast<std::uint32_t>(payload.size()));
  store(frame, kKind, static_cast<std::uint16_t>(kind));
  store(frame, kHeaderCheck, static_cast<std::uint16_t>(crc(frame.first(kHeaderCheck))));
  std::copy(payload.begin(), payload.end(), frame.begin() + kFrameHeader);
  store(frame, kChecksum, crc(payload, crc(frame.first(kChecksum))));
}

FrameReader::FrameReader(std::string name, std::size_t noise)
    : name_(std::move(name)), noise_(noise), buffer_(4 * (kFrameHeader + kMaxPayload)) {}

std::span<std::uint8_t> FrameReader::room() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return std::span(buffer_).subspan(end_);
}

void FrameReader::add(std::size_t count) {
  VMM_CHECK(count <= buffer_.size() - end_, "more bytes than there was room for");
  end_ += count;
}

Error FrameReader::garbled(std::string_view what) const {
  return Error::lab(fmt::format("{} is garbled: the frame after number {} {}", name_, last_, what));
}

Result<std::optional<Frame>> FrameReader::next() {
  if (!greeted_) return next_greeting();
  const auto bytes = std::span<const std::uint8_t>(buffer_).subspan(begin_, end_ - begin_);
  if (bytes.size() < kFrameHeader) return std::nullopt;
  if (!has_magic(bytes)) return fail(garbled("does not begin as a frame does"));
  if (!header_is_whole(bytes)) return fail(garbled("has a header that fails its check"));
  const Header header = header_of(bytes);
  if (header.length > kMaxPayload)
    return fail(garbled(fmt::format("has {} bytes; the limit is {}", header.length, kMaxPayload)));
  if (bytes.size() - kFrameHeader < header.length) return std::nullopt;
  if (!payload_is_whole(bytes, header.length)) return fail(garbled("fails its checksum"));
  if (!is_kind(header.kind) || bytes[kKind + 1] != 0)
    return fail(garbled(fmt::format("is of kind {}, which does not exist", header.kind)));
  const auto kind = static_cast<FrameKind>(header.kind);
  // A greeting may come at any time: it is how a new session begins.
  if (kind != FrameKind::Greeting && header.sequence != last_ + 1)
    return fail(Error::lab(fmt::format("{} {} a frame: number {} after {}", name_,
                                       header.sequence == last_ ? "repeated" : "lost",
                                       header.sequence, last_)));
  last_ = header.sequence;
  begin_ += kFrameHeader + header.length;
  return Frame{kind, header.stream, bytes.subspan(kFrameHeader, header.length)};
}

Result<std::optional<Frame>> FrameReader::next_greeting() {
  while (end_ - begin_ >= kFrameHeader) {
    const auto bytes = std::span<const std::uint8_t>(buffer_).subspan(begin_, end_ - begin_);
    const Header header = header_of(bytes);
    const bool possible = has_magic(bytes) && header_is_whole(bytes) &&
                          header.kind == static_cast<std::uint8_t>(FrameKind::Greeting) &&
                          header.length <= kMaxGreeting;
    if (possible && bytes.size() - kFrameHeader < header.length) return std::nullopt;
    if (possible && payload_is_whole(bytes, header.length)) {
      greeted_ = true;
      return next();
    }
    if (noise_ == 0)
      return fail(Error::lab(fmt::format("{} carries something else than frames", name_)));
    --noise_;
    ++begin_;
  }
  return std::nullopt;
}

}  // namespace vmm
