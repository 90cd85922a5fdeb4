#include "vmm/core/page_map.h"

#include <array>
#include <span>

#include "vmm/core/page_tables.h"

namespace vmm {

using namespace page_tables;

namespace {

class Lister {
 public:
  Lister(const MemoryReader& memory, const PagingContext& context, std::size_t most_entries,
         std::size_t most_ranges)
      : memory_(memory),
        context_(context),
        mode_(context.mode()),
        shape_(shape_of(mode_)),
        entries_left_(most_entries),
        most_ranges_(most_ranges) {}

  PageMap list() && {
    if (mode_ == PagingMode::None)
      add({0, 0, 4_GiB});
    else
      list_table(root_of(mode_, context_.cr3), shape_.levels, 0);
    return std::move(map_);
  }

 private:
  // As deep as there are levels.
  void list_table(Gpa table, unsigned level, Gva base) {  // NOLINT(misc-no-recursion)
    const unsigned count = entries_of(mode_, shape_, level);
    std::array<std::uint8_t, 4_KiB> raw{};
    const auto bytes = std::span(raw).first(std::size_t{count} * shape_.entry_size);
    if (!memory_.read(table, bytes)) return;
    for (unsigned i = 0; i < count && map_.complete; ++i) {
      const std::uint64_t entry = load_uint(std::span<const std::uint8_t>(
          bytes.subspan(std::size_t{i} * shape_.entry_size, shape_.entry_size)));
      if ((entry & kP) == 0) continue;
      if (entries_left_ == 0) {
        map_.complete = false;
        return;
      }
      --entries_left_;
      const unsigned shift = shift_of(shape_, level);
      const Gva linear = canonical(base | Gva{i} << shift);
      const Gpa target = target_of(context_, mode_, level, entry);
      if (is_leaf(context_, mode_, level, entry))
        add({linear, target, 1ull << shift});
      else
        list_table(target, level - 1, linear);
    }
  }

  // Copies the top bit of a linear address of the 64-bit modes into those above it.
  Gva canonical(Gva linear) const {
    if (!is_long(mode_)) return linear;
    const unsigned width = mode_ == PagingMode::Level5 ? 57 : 48;
    return bit(linear, width - 1) ? linear | ~low_mask(width) : linear;
  }

  void add(const MappedRange& range) {
    if (!map_.ranges.empty()) {
      MappedRange& last = map_.ranges.back();
      if (last.linear + last.size == range.linear && last.physical + last.size == range.physical) {
        last.size += range.size;
        return;
      }
    }
    if (map_.ranges.size() == most_ranges_) {
      map_.complete = false;
      return;
    }
    map_.ranges.push_back(range);
  }

  const MemoryReader& memory_;
  const PagingContext& context_;
  PagingMode mode_;
  Shape shape_;
  std::size_t entries_left_;
  std::size_t most_ranges_;
  PageMap map_;
};

}  // namespace

PageMap map_pages(const MemoryReader& memory, const PagingContext& context,
                  std::size_t most_entries, std::size_t most_ranges) {
  PagingContext lenient = context;
  lenient.features = PagingFeatures::all_allowed();
  return Lister(memory, lenient, most_entries, most_ranges).list();
}

}  // namespace vmm
