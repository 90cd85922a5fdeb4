// A split virtqueue as its device sees it (VIRTIO 1.2, section 2.7). The rings are the guest's and
// may hold anything: every index, address and length is checked each time it is read, and nothing
// of guest memory is kept but copies.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "vmm/base/archive.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

struct VirtQueueState {
  static constexpr std::uint16_t kMaxSize = 256;

  std::uint16_t size = kMaxSize;
  bool enabled = false;
  Gpa descriptors = 0;
  Gpa available = 0;  // the driver area
  Gpa used = 0;       // the device area
  std::uint16_t next_available = 0;
  std::uint16_t next_used = 0;

  bool operator==(const VirtQueueState&) const = default;
  void visit(Archive& archive);
};

// What the driver agreed to that concerns rings.
struct VirtQueueFeatures {
  bool indirect = false;   // VIRTIO_F_INDIRECT_DESC
  bool event_idx = false;  // VIRTIO_F_EVENT_IDX
};

struct VirtSegment {
  Gpa address = 0;
  std::uint32_t size = 0;
};

// A request's buffers: what the device may read, then what it may write. At most 2 * kMaxSize
// segments, each of at least one byte and in RAM when it was looked at.
struct VirtChain {
  std::uint16_t head = 0;
  std::vector<VirtSegment> readable;
  std::vector<VirtSegment> writable;
  std::uint64_t readable_size = 0;
  std::uint64_t writable_size = 0;

  // Room for any chain, so that taking one asks for no memory.
  void reserve();
};

// A value, or the rule that the driver broke, in words. After that the queue must not be used.
template <typename T>
using VirtResult = tl::expected<T, std::string_view>;

// Makes `chain` the one at the front, which stays there until use_chain(); false when the driver
// has given no more. Then, with event_idx, the driver has been told that it must notify for the
// next.
VirtResult<bool> next_chain(const VirtQueueState& queue, GuestMemory& memory,
                            VirtQueueFeatures features, VirtChain& chain);
// Takes the chain at the front away and hands `head` back with `written` bytes. Whether the driver
// wants an interrupt for it.
VirtResult<bool> use_chain(VirtQueueState& queue, GuestMemory& memory, VirtQueueFeatures features,
                           std::uint16_t head, std::uint32_t written);

// Copies between `data` and the bytes of `segments` from `offset` on. False when these are fewer,
// or no RAM.
bool gather(const GuestMemory& memory, std::span<const VirtSegment> segments, std::uint64_t offset,
            std::span<std::uint8_t> data);
bool scatter(GuestMemory& memory, std::span<const VirtSegment> segments, std::uint64_t offset,
             std::span<const std::uint8_t> data);

}  // namespace vmm
