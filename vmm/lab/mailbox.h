// A byte stream through a disk: how the agent talks to the host where the emulator offers no fast
// port. Bochs' serial line carries some 7 kB/s, its disk megabytes.
//
// The disk image is a file that both sides see: the host maps it, the lab reads and writes sectors.
// Each direction is a ring of bytes and two counters that only grow: how many bytes the writer has
// put in, how many the reader has taken out. Each side writes one control sector, with its own two
// counters, and never the other's. A control sector carries a checksum, so that one that was read
// while it changed is taken for no news instead of for wrong news.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/base/units.h"

namespace vmm {

namespace mailbox {
// Byte offsets in the disk. What lies in front of the mailbox and behind it is not its business.
constexpr std::uint64_t kHostControl = 1_MiB;
constexpr std::uint64_t kLabControl = 1_MiB + 4_KiB;
constexpr std::uint64_t kToLab = 2_MiB;
constexpr std::uint64_t kFromLab = 6_MiB;
constexpr std::uint64_t kRing = 4_MiB;
constexpr std::uint64_t kEnd = kFromLab + kRing;
constexpr std::uint64_t kSector = 512;
}  // namespace mailbox

// What one side tells the other in its control sector.
struct MailboxCounters {
  std::uint64_t written = 0;  // bytes ever put into the ring that this side writes
  std::uint64_t taken = 0;    // bytes ever taken out of the ring that this side reads
  bool operator==(const MailboxCounters&) const = default;
};

using MailboxSector = std::array<std::uint8_t, mailbox::kSector>;
MailboxSector encode_counters(const MailboxCounters& counters);
// Nothing when the sector is not (or not yet, or only half) a control sector.
std::optional<MailboxCounters> decode_counters(std::span<const std::uint8_t> sector);

// The disk as one side reaches it. Offsets and sizes are multiples of the sector.
class MailboxDisk {
 public:
  virtual ~MailboxDisk() = default;
  virtual Result<void> read(std::uint64_t offset, std::span<std::uint8_t> bytes) = 0;
  virtual Result<void> write(std::uint64_t offset, std::span<const std::uint8_t> bytes) = 0;
};

enum class MailboxSide { Host, Lab };

// One side of the mailbox. A step moves what can be moved and never waits.
class Mailbox {
 public:
  Mailbox(MailboxSide side, MailboxDisk& disk);

  // Bytes from the other side, given to `sink`, which returns how many of them it took (0 when it
  // is full). Bytes for the other side, asked of `source`, which returns how many it filled in.
  using Sink = std::function<std::size_t(std::span<const std::uint8_t>)>;
  using Source = std::function<std::size_t(std::span<std::uint8_t>)>;
  // True when anything was moved. Errors (kind Lab): the disk failed, or the other side's counters
  // cannot be true.
  Result<bool> step(const Sink& sink, const Source& source);

 private:
  Result<void> read_theirs();
  Result<bool> take(const Sink& sink);
  Result<bool> put(const Source& source);

  MailboxSide side_;
  MailboxDisk& disk_;
  MailboxCounters ours_;
  MailboxCounters theirs_;
  std::vector<std::uint8_t> in_;   // the sectors last read
  std::vector<std::uint8_t> out_;  // our ring as the disk has it, for sectors written in parts
};

// Relays between a connected stream socket and the mailbox until the socket is closed, or the disk
// fails. Waits for the socket in poll() and looks at the disk every few milliseconds, less often
// when nothing happens.
Result<void> relay_mailbox(MailboxSide side, MailboxDisk& disk, const Fd& socket);

// A disk that is mapped into this process.
class MappedMailboxDisk : public MailboxDisk {
 public:
  explicit MappedMailboxDisk(std::span<std::uint8_t> image) : image_(image) {}
  Result<void> read(std::uint64_t offset, std::span<std::uint8_t> bytes) override;
  Result<void> write(std::uint64_t offset, std::span<const std::uint8_t> bytes) override;

 private:
  std::span<std::uint8_t> image_;
};

// A block device, past the page cache (O_DIRECT): what the other side wrote has to be seen.
class DeviceMailboxDisk : public MailboxDisk {
 public:
  // `device` was opened with O_DIRECT.
  static Result<std::unique_ptr<DeviceMailboxDisk>> adopt(Fd device);
  Result<void> read(std::uint64_t offset, std::span<std::uint8_t> bytes) override;
  Result<void> write(std::uint64_t offset, std::span<const std::uint8_t> bytes) override;

 private:
  explicit DeviceMailboxDisk(Fd device, Mapping buffer)
      : device_(std::move(device)), buffer_(std::move(buffer)) {}

  Fd device_;
  Mapping buffer_;  // page-aligned, as O_DIRECT wants it
};

}  // namespace vmm
