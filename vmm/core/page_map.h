// All that a set of page tables maps, as ranges: for core files, whose readers know addresses as
// the guest's code does and have no walker.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/core/page_walk.h"

namespace vmm {

// `size` bytes from `linear` on lead to those from `physical` on.
struct MappedRange {
  Gva linear = 0;
  Gpa physical = 0;
  std::uint64_t size = 0;

  bool operator==(const MappedRange&) const = default;
};

struct PageMap {
  std::vector<MappedRange> ranges;  // ascending, what joins is joined
  bool complete = true;             // false: there would be more
};

// What the guest meant: present entries lead where their addresses say, whatever rule on reserved
// bits they break and whoever may use them, so that a 1 GiB page counts although the model has
// none. Without paging the first 4 GiB are themselves. Looks at no more than `most_entries`
// entries, and gives no more than `most_ranges`: tables may be deep, hostile, or map themselves.
PageMap map_pages(const MemoryReader& memory, const PagingContext& context,
                  std::size_t most_entries = 4'000'000, std::size_t most_ranges = 16'384);

}  // namespace vmm
