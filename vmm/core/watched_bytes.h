// What a vCPU finds in ranges of its memory, to see after a step whether one was written: for hosts
// whose KVM delivers no watchpoints.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "vmm/core/guest_memory.h"
#include "vmm/core/page_walk.h"

namespace vmm {

struct WatchedRange {
  Gva address = 0;
  unsigned length = 0;

  bool operator==(const WatchedRange&) const = default;
};

class WatchedBytes {
 public:
  // Reads `ranges` anew by these tables. The first of them that has other bytes than the last time
  // at the same place of RAM: where another page is mapped meanwhile, nothing was written.
  std::optional<std::size_t> update(const std::vector<WatchedRange>& ranges,
                                    const MemoryReader& memory, const PagingContext& context);

 private:
  // Of one range; no bytes where not all of it is RAM.
  struct Seen {
    WatchedRange range;
    std::vector<Gpa> pages;
    std::vector<std::uint8_t> bytes;
  };
  static Seen look(const WatchedRange& range, const MemoryReader& memory,
                   const PagingContext& context);

  std::vector<Seen> seen_;
};

}  // namespace vmm
