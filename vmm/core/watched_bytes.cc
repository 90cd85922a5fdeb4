#include "vmm/core/watched_bytes.h"

#include <algorithm>

namespace vmm {

WatchedBytes::Seen WatchedBytes::look(const WatchedRange& range, const MemoryReader& memory,
                                      const PagingContext& context) {
  constexpr Gva kPage = 4096;
  Seen seen{.range = range, .pages = {}, .bytes = {}};
  std::vector<std::uint8_t> bytes(range.length);
  std::span<std::uint8_t> rest = bytes;
  for (Gva at = range.address; !rest.empty();) {
    const std::size_t part = std::min<std::size_t>(rest.size(), kPage - at % kPage);
    const Walk walk = walk_page(memory, context, at, {});
    if (!walk.gpa || !memory.read(*walk.gpa, rest.first(part))) return seen;
    seen.pages.push_back(*walk.gpa);
    rest = rest.subspan(part);
    at += part;
  }
  seen.bytes = std::move(bytes);
  return seen;
}

std::optional<std::size_t> WatchedBytes::update(const std::vector<WatchedRange>& ranges,
                                                const MemoryReader& memory,
                                                const PagingContext& context) {
  std::optional<std::size_t> changed;
  std::vector<Seen> now;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    now.push_back(look(ranges[i], memory, context));
    const auto before = std::ranges::find(seen_, ranges[i], &Seen::range);
    if (changed || before == seen_.end() || before->bytes.empty() || now[i].bytes.empty()) continue;
    if (before->pages == now[i].pages && before->bytes != now[i].bytes) changed = i;
  }
  seen_ = std::move(now);
  return changed;
}

}  // namespace vmm
