// Chip:       virtio block device
// Source:     VIRTIO 1.2, section 5.2; the transport is virtio_pci.h
// Implements: read, write, flush, get-id; SEG_MAX, BLK_SIZE, RO, FLUSH; requests of any layout
// Leaves out: discard, write zeroes, secure erase, topology, cache mode, several queues
// Differs:    one request at a time, in order; a driver without FLUSH has no way to ask for what it
//             wrote to be kept from a failure of the host
#pragma once

#include <optional>
#include <span>
#include <string>

#include "devices/virtio_pci.h"
#include "vmm/core/block_backend.h"

namespace vmm {

// A part of a request for whoever has the disk's bytes. Between next_job() and finish_job() nothing
// of the board may be held.
struct BlockJob {
  enum class Kind : std::uint8_t { Read, Write, Flush };
  Kind kind = Kind::Read;
  std::uint64_t offset = 0;   // bytes
  std::size_t size = 0;       // of the buffer's front; 0 for a flush
  std::uint64_t request = 0;  // which request it is a part of
};

class VirtioBlk final : public VirtioPci {
 public:
  static constexpr std::uint32_t kSegMax = 126;  // with header and status half of the queue

  VirtioBlk(std::string name, BlockGeometry geometry, GuestMemory& memory, Wires wires);

  // The next part, for which `buffer` (whole sectors, at least one) holds what is to be written;
  // nothing while there is none, and while one is out. Requests that need no bytes of the disk are
  // answered on the way; after many of those work is asked for again.
  std::optional<BlockJob> next_job(std::span<std::uint8_t> buffer);
  // `job` is done, and `buffer` holds what was read. Of a request that was given up in the meantime
  // (reset) nothing reaches the guest.
  void finish_job(const BlockJob& job, bool done, std::span<const std::uint8_t> buffer);

  // Requests that the guest was told had failed.
  std::uint64_t failures() const { return failures_; }

 protected:
  std::uint64_t device_features() const override;
  std::array<std::uint8_t, kConfigSize> device_config() const override;
  void forget() override;

 private:
  // The request at the front of the queue, which stays there until it is answered: a saved state
  // holds none, and after loading it is begun anew.
  struct Request {
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint64_t moved = 0;
  };

  bool begin();
  std::optional<std::uint8_t> refusal(const Request& request) const;
  void answer(std::uint8_t status);
  void answer_get_id();

  BlockGeometry geometry_;
  std::optional<Request> request_;
  VirtChain chain_;           // of the request
  std::uint64_t number_ = 0;  // of the request; grows with each, and when one is given up
  bool job_out_ = false;
  std::uint64_t failures_ = 0;
};

}  // namespace vmm
