#include "vmm/lab/mailbox.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

using mailbox::kRing;
using mailbox::kSector;

constexpr std::string_view kMagic = "vmmMail1";
constexpr std::size_t kWritten = 8;
constexpr std::size_t kTaken = 16;
constexpr std::size_t kChecksum = 24;
// At most so much in one step and direction, so that neither direction starves the other.
constexpr std::size_t kChunk = 256_KiB;

std::uint64_t round_down(std::uint64_t value) { return value / kSector * kSector; }
std::uint64_t round_up(std::uint64_t value) { return round_down(value + kSector - 1); }

std::uint32_t checksum(std::span<const std::uint8_t> sector) {
  return static_cast<std::uint32_t>(::crc32(0, sector.data(), kChecksum));
}

}  // namespace

MailboxSector encode_counters(const MailboxCounters& counters) {
  MailboxSector sector{};
  std::copy(kMagic.begin(), kMagic.end(), sector.begin());
  store(sector, kWritten, counters.written);
  store(sector, kTaken, counters.taken);
  store(sector, kChecksum, checksum(sector));
  return sector;
}

std::optional<MailboxCounters> decode_counters(std::span<const std::uint8_t> sector) {
  if (sector.size() < kSector || !std::equal(kMagic.begin(), kMagic.end(), sector.begin()))
    return std::nullopt;
  if (load<std::uint32_t>(sector, kChecksum) != checksum(sector)) return std::nullopt;
  return MailboxCounters{.written = load<std::uint64_t>(sector, kWritten),
                         .taken = load<std::uint64_t>(sector, kTaken)};
}

Mailbox::Mailbox(MailboxSide side, MailboxDisk& disk)
    : side_(side), disk_(disk), in_(kChunk + 2 * kSector), out_(kRing) {}

Result<void> Mailbox::read_theirs() {
  MailboxSector sector{};
  VMM_TRY(disk_.read(side_ == MailboxSide::Host ? mailbox::kLabControl : mailbox::kHostControl,
                     sector));
  const auto counters = decode_counters(sector);
  if (!counters) return {};
  // Each counter only grows, and no reader is ahead of its writer or more than a ring behind.
  if (counters->written < theirs_.written || counters->taken < theirs_.taken ||
      counters->written - ours_.taken > kRing || counters->taken > ours_.written)
    return fail(Error::lab(fmt::format(
        "the other side of the mailbox says it wrote {} and took {} bytes, after {} and {}; here "
        "{} were taken and {} written",
        counters->written, counters->taken, theirs_.written, theirs_.taken, ours_.taken,
        ours_.written)));
  theirs_ = *counters;
  return {};
}

Result<bool> Mailbox::take(const Sink& sink) {
  const std::uint64_t start = ours_.taken % kRing;
  const std::uint64_t size =
      std::min({theirs_.written - ours_.taken, kRing - start, std::uint64_t{kChunk}});
  if (size == 0) return false;
  const std::uint64_t first = round_down(start);
  const std::span<std::uint8_t> sectors(in_.data(), round_up(start + size) - first);
  const std::uint64_t ring = side_ == MailboxSide::Host ? mailbox::kFromLab : mailbox::kToLab;
  VMM_TRY(disk_.read(ring + first, sectors));
  const std::size_t taken = sink(sectors.subspan(start - first, size));
  ours_.taken += std::min<std::uint64_t>(taken, size);
  return taken != 0;
}

Result<bool> Mailbox::put(const Source& source) {
  const std::uint64_t start = ours_.written % kRing;
  const std::uint64_t size =
      std::min({kRing - (ours_.written - theirs_.taken), kRing - start, std::uint64_t{kChunk}});
  if (size == 0) return false;
  const std::size_t filled =
      std::min<std::uint64_t>(source(std::span(out_).subspan(start, size)), size);
  if (filled == 0) return false;
  const std::uint64_t first = round_down(start);
  const std::uint64_t ring = side_ == MailboxSide::Host ? mailbox::kToLab : mailbox::kFromLab;
  VMM_TRY(
      disk_.write(ring + first, std::span(out_).subspan(first, round_up(start + filled) - first)));
  ours_.written += filled;
  return true;
}

Result<bool> Mailbox::step(const Sink& sink, const Source& source) {
  VMM_TRY(read_theirs());
  const bool took = VMM_TRY(take(sink));
  const bool gave = VMM_TRY(put(source));
  if (took || gave)
    VMM_TRY(disk_.write(side_ == MailboxSide::Host ? mailbox::kHostControl : mailbox::kLabControl,
                        encode_counters(ours_)));
  return took || gave;
}

Result<void> relay_mailbox(MailboxSide side, MailboxDisk& disk, const Fd& socket) {
  // What a poll of the disk costs the lab is some thousand instructions; what it costs the host is
  // nothing to speak of.
  constexpr int kShortest = 1;
  constexpr int kLongest = 8;
  Mailbox mailbox(side, disk);
  bool closed = false;
  const Mailbox::Sink sink = [&](std::span<const std::uint8_t> bytes) -> std::size_t {
    const ssize_t n = ::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EAGAIN && errno != EINTR) closed = true;
    return 0;
  };
  const Mailbox::Source source = [&](std::span<std::uint8_t> bytes) -> std::size_t {
    const ssize_t n = ::recv(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n > 0) return static_cast<std::size_t>(n);
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) closed = true;
    return 0;
  };
  int pause = kShortest;
  while (!closed) {
    if (VMM_TRY(mailbox.step(sink, source))) {
      pause = kShortest;
      continue;
    }
    pollfd waiting = {.fd = socket.get(), .events = POLLIN, .revents = 0};
    ::poll(&waiting, 1, pause);
    // A ring that is full while the socket has more to say would make this a busy loop.
    if ((waiting.revents & POLLIN) != 0) ::poll(nullptr, 0, kShortest);
    pause = std::min(2 * pause, kLongest);
  }
  return {};
}

Result<void> MappedMailboxDisk::read(std::uint64_t offset, std::span<std::uint8_t> bytes) {
  VMM_CHECK(offset <= image_.size() && bytes.size() <= image_.size() - offset,
            "the mailbox lies outside of its disk");
  std::memcpy(bytes.data(), image_.data() + offset, bytes.size());
  return {};
}

Result<void> MappedMailboxDisk::write(std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  VMM_CHECK(offset <= image_.size() && bytes.size() <= image_.size() - offset,
            "the mailbox lies outside of its disk");
  // The emulator reads this memory from another process: what the counters speak of has to be there
  // before they are.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  std::memcpy(image_.data() + offset, bytes.data(), bytes.size());
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return {};
}

Result<std::unique_ptr<DeviceMailboxDisk>> DeviceMailboxDisk::adopt(Fd device) {
  Mapping buffer = VMM_TRY(Mapping::anonymous(kChunk + 2 * kSector));
  return std::unique_ptr<DeviceMailboxDisk>(
      new DeviceMailboxDisk(std::move(device), std::move(buffer)));
}

Result<void> DeviceMailboxDisk::read(std::uint64_t offset, std::span<std::uint8_t> bytes) {
  VMM_CHECK(bytes.size() <= buffer_.bytes().size(), "more sectors than the buffer holds");
  const ssize_t n =
      ::pread(device_.get(), buffer_.bytes().data(), bytes.size(), static_cast<off_t>(offset));
  if (n != static_cast<ssize_t>(bytes.size()))
    return fail(Error::system(ErrorKind::Lab, fmt::format("reading the mailbox at {:x}h", offset),
                              n < 0 ? errno : EIO));
  std::memcpy(bytes.data(), buffer_.bytes().data(), bytes.size());
  return {};
}

Result<void> DeviceMailboxDisk::write(std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  VMM_CHECK(bytes.size() <= buffer_.bytes().size(), "more sectors than the buffer holds");
  std::memcpy(buffer_.bytes().data(), bytes.data(), bytes.size());
  const ssize_t n =
      ::pwrite(device_.get(), buffer_.bytes().data(), bytes.size(), static_cast<off_t>(offset));
  if (n != static_cast<ssize_t>(bytes.size()))
    return fail(Error::system(ErrorKind::Lab, fmt::format("writing the mailbox at {:x}h", offset),
                              n < 0 ? errno : EIO));
  return {};
}

}  // namespace vmm
