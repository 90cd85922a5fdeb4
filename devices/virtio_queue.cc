#include "devices/virtio_queue.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {

// 2.7.5: descriptors of 16 bytes.
constexpr std::uint64_t DESC_SIZE = 16;
constexpr std::uint16_t DESC_F_NEXT = 1;
constexpr std::uint16_t DESC_F_WRITE = 2;
constexpr std::uint16_t DESC_F_INDIRECT = 4;

// 2.7.6 and 2.7.8: flags, idx, ring; behind it one more word for EVENT_IDX.
constexpr std::uint64_t RING_FLAGS = 0;
constexpr std::uint64_t RING_IDX = 2;
constexpr std::uint64_t RING = 4;
constexpr std::uint64_t USED_ELEMENT = 8;
constexpr std::uint16_t AVAIL_F_NO_INTERRUPT = 1;

}  // namespace
}  // namespace spec

namespace {

using namespace std::string_view_literals;

tl::unexpected<std::string_view> broken(std::string_view rule) {
  return tl::unexpected<std::string_view>(rule);
}

struct Descriptor {
  Gpa address;
  std::uint32_t size;
  std::uint16_t flags;
  std::uint16_t next;
};

// Entry `index` of a table at `table`; addresses that wrap are no RAM.
std::optional<Descriptor> read_descriptor(const GuestMemory& memory, Gpa table,
                                          std::uint16_t index) {
  std::array<std::uint8_t, spec::DESC_SIZE> raw;
  const Gpa at = table + index * spec::DESC_SIZE;
  if (at < table || !memory.read(at, raw)) return std::nullopt;
  return Descriptor{load<std::uint64_t>(raw, 0), load<std::uint32_t>(raw, 8),
                    load<std::uint16_t>(raw, 12), load<std::uint16_t>(raw, 14)};
}

bool is_valid_size(std::uint16_t size) {
  return size <= VirtQueueState::kMaxSize && std::has_single_bit(size);
}

template <typename T>
bool write_value(GuestMemory& memory, Gpa at, T value) {
  std::array<std::uint8_t, sizeof value> raw;
  store(raw, 0, value);
  return memory.write(at, raw);
}

// Takes one descriptor into the chain, or says which rule it breaks.
std::optional<std::string_view> add(VirtChain& chain, const GuestMemory& memory,
                                    const Descriptor& descriptor) {
  if (descriptor.size == 0) return "a descriptor has no bytes"sv;
  if (!memory.is_ram(descriptor.address, descriptor.size)) return "a descriptor is not in RAM"sv;
  const VirtSegment segment{descriptor.address, descriptor.size};
  if ((descriptor.flags & spec::DESC_F_WRITE) != 0) {
    chain.writable.push_back(segment);
    chain.writable_size += segment.size;
    return std::nullopt;
  }
  if (!chain.writable.empty())
    return "a descriptor to be read follows one to be written"sv;  // 2.7.4.2
  chain.readable.push_back(segment);
  chain.readable_size += segment.size;
  return std::nullopt;
}

// Follows a chain through a table of `count` entries: so many descriptors at most, so a loop ends.
std::optional<std::string_view> walk(VirtChain& chain, const GuestMemory& memory, Gpa table,
                                     std::uint32_t count, std::uint16_t index, bool may_be_indirect,
                                     std::optional<Descriptor>& indirect) {
  for (std::uint32_t seen = 0;; ++seen) {
    if (index >= count) return "a descriptor's index is outside of its table"sv;
    if (seen == count) return "a chain of descriptors loops"sv;
    const auto descriptor = read_descriptor(memory, table, index);
    if (!descriptor) return "a descriptor table is not in RAM"sv;
    if ((descriptor->flags & spec::DESC_F_INDIRECT) != 0) {
      if (!may_be_indirect) return "an indirect descriptor where none may be"sv;
      if ((descriptor->flags & spec::DESC_F_NEXT) != 0)
        return "an indirect descriptor has a successor"sv;  // 2.7.5.3.1
      if (descriptor->size == 0 || descriptor->size % spec::DESC_SIZE != 0)
        return "an indirect table is no whole number of descriptors"sv;
      indirect = descriptor;
      return std::nullopt;
    }
    if (const auto rule = add(chain, memory, *descriptor)) return rule;
    if ((descriptor->flags & spec::DESC_F_NEXT) == 0) return std::nullopt;
    index = descriptor->next;
  }
}

std::optional<std::string_view> collect(VirtChain& chain, const VirtQueueState& queue,
                                        const GuestMemory& memory, bool indirect_allowed) {
  std::optional<Descriptor> indirect;
  if (const auto rule = walk(chain, memory, queue.descriptors, queue.size, chain.head,
                             indirect_allowed, indirect))
    return rule;
  if (!indirect) return std::nullopt;
  const std::uint64_t entries = indirect->size / spec::DESC_SIZE;
  if (entries > VirtQueueState::kMaxSize) return "an indirect table has more than 256 entries"sv;
  std::optional<Descriptor> none;
  return walk(chain, memory, indirect->address, static_cast<std::uint32_t>(entries), 0, false,
              none);
}

// What the driver has given, as its index says; anything else in the ring is read behind that.
std::optional<std::uint16_t> available_index(const VirtQueueState& queue,
                                             const GuestMemory& memory) {
  const auto index = memory.read_value<std::uint16_t>(queue.available + spec::RING_IDX);
  std::atomic_thread_fence(std::memory_order_acquire);
  return index;
}

// The rings with both of their event words.
bool rings_are_ram(const VirtQueueState& queue, const GuestMemory& memory) {
  return memory.is_ram(queue.descriptors, queue.size * spec::DESC_SIZE) &&
         memory.is_ram(queue.available, spec::RING + 2 * std::uint64_t{queue.size} + 2) &&
         memory.is_ram(queue.used, spec::RING + spec::USED_ELEMENT * queue.size + 2);
}

template <typename Bytes, typename Copy>
bool move(std::span<const VirtSegment> segments, std::uint64_t offset, Bytes data,
          const Copy& copy) {
  for (const VirtSegment& segment : segments) {
    if (data.empty()) return true;
    if (offset >= segment.size) {
      offset -= segment.size;
      continue;
    }
    const std::size_t count =
        static_cast<std::size_t>(std::min<std::uint64_t>(segment.size - offset, data.size()));
    if (!copy(segment.address + offset, data.first(count))) return false;
    data = data.subspan(count);
    offset = 0;
  }
  return data.empty();
}

}  // namespace

void VirtQueueState::visit(Archive& archive) {
  archive("queue.size", size)("queue.enabled", enabled)("queue.descriptors", descriptors);
  archive("queue.available", available)("queue.used", used);
  archive("queue.next_available", next_available)("queue.next_used", next_used);
}

void VirtChain::reserve() {
  readable.reserve(2 * VirtQueueState::kMaxSize);
  writable.reserve(2 * VirtQueueState::kMaxSize);
}

VirtResult<bool> next_chain(const VirtQueueState& queue, GuestMemory& memory,
                            VirtQueueFeatures features, VirtChain& chain) {
  if (!is_valid_size(queue.size)) return broken("the queue's size is no power of two up to 256");
  if (!rings_are_ram(queue, memory)) return broken("a ring is not in RAM");
  auto index = available_index(queue, memory);
  if (index == queue.next_available && features.event_idx) {
    // 2.7.10: notify when the index passes this one. Whoever gave something in the meantime has not
    // seen that, so look again.
    if (!write_value(memory, queue.used + spec::RING + spec::USED_ELEMENT * queue.size,
                     queue.next_available))
      return broken("a ring is not in RAM");
    std::atomic_thread_fence(std::memory_order_seq_cst);
    index = available_index(queue, memory);
  }
  if (!index) return broken("a ring is not in RAM");
  const auto pending = static_cast<std::uint16_t>(*index - queue.next_available);
  if (pending == 0) return false;
  if (pending > queue.size) return broken("more chains are available than the queue has entries");
  const auto head = memory.read_value<std::uint16_t>(
      queue.available + spec::RING + 2 * std::uint64_t{queue.next_available} % (2u * queue.size));
  if (!head) return broken("a ring is not in RAM");
  chain.head = *head;
  chain.readable.clear();
  chain.writable.clear();
  chain.readable_size = chain.writable_size = 0;
  if (const auto rule = collect(chain, queue, memory, features.indirect)) return broken(*rule);
  return true;
}

VirtResult<bool> use_chain(VirtQueueState& queue, GuestMemory& memory, VirtQueueFeatures features,
                           std::uint16_t head, std::uint32_t written) {
  if (!is_valid_size(queue.size)) return broken("the queue's size is no power of two up to 256");
  if (!rings_are_ram(queue, memory)) return broken("a ring is not in RAM");
  const Gpa element = queue.used + spec::RING + spec::USED_ELEMENT * (queue.next_used % queue.size);
  const auto next = static_cast<std::uint16_t>(queue.next_used + 1);
  bool stored = write_value(memory, element, std::uint32_t{head}) &&
                write_value(memory, element + 4, written);
  // The element before the index that shows it, the index before the look at what the driver wants.
  std::atomic_thread_fence(std::memory_order_release);
  stored = stored && write_value(memory, queue.used + spec::RING_IDX, next);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!stored) return broken("a ring is not in RAM");
  queue.next_used = next;
  ++queue.next_available;
  if (features.event_idx) {
    const auto event = memory.read_value<std::uint16_t>(queue.available + spec::RING +
                                                        2 * std::uint64_t{queue.size});
    if (!event) return broken("a ring is not in RAM");
    return *event == static_cast<std::uint16_t>(next - 1);
  }
  const auto flags = memory.read_value<std::uint16_t>(queue.available + spec::RING_FLAGS);
  if (!flags) return broken("a ring is not in RAM");
  return (*flags & spec::AVAIL_F_NO_INTERRUPT) == 0;
}

bool gather(const GuestMemory& memory, std::span<const VirtSegment> segments, std::uint64_t offset,
            std::span<std::uint8_t> data) {
  return move(segments, offset, data,
              [&memory](Gpa at, std::span<std::uint8_t> part) { return memory.read(at, part); });
}

bool scatter(GuestMemory& memory, std::span<const VirtSegment> segments, std::uint64_t offset,
             std::span<const std::uint8_t> data) {
  return move(segments, offset, data, [&memory](Gpa at, std::span<const std::uint8_t> part) {
    return memory.write(at, part);
  });
}

}  // namespace vmm
