// A driver's side of a split virtqueue in guest memory, for tests: it writes what it is told, right
// or wrong.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>

#include "devices/virtio_queue.h"
#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

struct FakeDescriptor {
  static constexpr std::uint16_t kNext = 1, kWrite = 2, kIndirect = 4;
  Gpa address = 0;
  std::uint32_t size = 0;
  std::uint16_t flags = 0;
  std::uint16_t next = 0;
};

class FakeRings {
 public:
  FakeRings(GuestMemory& memory, Gpa base, std::uint16_t size) : memory_(memory), size_(size) {
    descriptors = base;
    available = base + 16u * size;
    used = align_up(available + 6 + 2u * size, 4_KiB);
  }

  template <typename T>
  void put(Gpa at, T value) {
    std::array<std::uint8_t, sizeof value> raw;
    store(raw, 0, value);
    VMM_CHECK(memory_.write(at, raw), "the test writes to RAM");
  }
  template <typename T>
  T get(Gpa at) const {
    const auto value = memory_.read_value<T>(at);
    VMM_CHECK(value.has_value(), "the test reads RAM");
    return *value;
  }
  void describe_at(Gpa table, std::uint16_t index, const FakeDescriptor& d) {
    put(table + 16u * index, d.address);
    put(table + 16u * index + 8, d.size);
    put(table + 16u * index + 12, d.flags);
    put(table + 16u * index + 14, d.next);
  }
  void describe(std::uint16_t index, const FakeDescriptor& d) {
    describe_at(descriptors, index, d);
  }
  // One after the other from `first` on, each but the last with its successor.
  void chain(std::uint16_t first, std::initializer_list<FakeDescriptor> all) {
    std::uint16_t index = first;
    for (FakeDescriptor d : all) {
      const bool last = static_cast<std::size_t>(index - first) + 1 == all.size();
      if (!last) d.flags |= FakeDescriptor::kNext;
      d.next = static_cast<std::uint16_t>(index + 1);
      describe(index++, d);
    }
  }
  void offer(std::uint16_t head) {
    put(available + 4 + 2u * (next_ % size_), head);
    ++next_;
    put(available + 2, next_);
  }
  // Where the next chain that is offered stands, and as if so many had been before.
  void start_at(std::uint16_t index) {
    next_ = index;
    put(available + 2, index);
  }
  std::uint16_t used_index() const { return get<std::uint16_t>(used + 2); }
  // Head and length of what was given back as number `index`.
  std::pair<std::uint32_t, std::uint32_t> used_element(std::uint16_t index) const {
    const Gpa at = used + 4 + 8u * (index % size_);
    return {get<std::uint32_t>(at), get<std::uint32_t>(at + 4)};
  }

  Gpa descriptors = 0, available = 0, used = 0;

 private:
  GuestMemory& memory_;
  std::uint16_t size_;
  std::uint16_t next_ = 0;
};

}  // namespace vmm
