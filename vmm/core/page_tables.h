// The shape of page tables in each mode: what walking one address and listing them all have in
// common. For vmm/core/page_walk.cc and page_map.cc alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vmm/base/bytes.h"
#include "vmm/core/page_walk.h"

namespace vmm::page_tables {

constexpr std::uint64_t kP = 1u << 0;
constexpr std::uint64_t kPs = 1u << 7;

// How a mode cuts an address: the number of levels and the bits of one index.
struct Shape {
  unsigned levels;
  unsigned index_bits;
  unsigned entry_size;
};

inline Shape shape_of(PagingMode mode) {
  switch (mode) {
    case PagingMode::None:
      return {0, 0, 0};
    case PagingMode::Bits32:
      return {2, 10, 4};
    case PagingMode::Pae:
      return {3, 9, 8};
    case PagingMode::Level4:
      return {4, 9, 8};
    case PagingMode::Level5:
      return {5, 9, 8};
  }
  return {0, 0, 0};
}

inline unsigned shift_of(const Shape& shape, unsigned level) {
  return 12 + (level - 1) * shape.index_bits;
}

// How many entries a table of `level` has: all of a page, but four in a PDPT of PAE.
inline unsigned entries_of(PagingMode mode, const Shape& shape, unsigned level) {
  return mode == PagingMode::Pae && level == 3 ? 4 : 1u << shape.index_bits;
}

inline Gpa root_of(PagingMode mode, std::uint64_t cr3) {
  if (mode == PagingMode::Bits32) return cr3 & 0xfffff000;
  if (mode == PagingMode::Pae) return cr3 & 0xffffffe0;
  // Bits above MAXPHYADDR are kept: they cannot be loaded, and a walk then says "not RAM".
  return cr3 & 0x000ffffffffff000;
}

inline bool is_long(PagingMode mode) {
  return mode == PagingMode::Level4 || mode == PagingMode::Level5;
}

// A present entry maps a page rather than a table. PS in a PML4E or PML5E is a reserved bit.
inline bool is_leaf(const PagingContext& context, PagingMode mode, unsigned level,
                    std::uint64_t entry) {
  if (level == 1) return true;
  if ((entry & kPs) == 0) return false;
  if (level == 2) return mode != PagingMode::Bits32 || (context.cr4 & spec::CR4_PSE) != 0;
  return level == 3 && is_long(mode);
}

// 4 MiB pages: bits of the physical address from 32 up stand in bits 20:13 (SDM table 4-4).
inline unsigned pse36_bits(const PagingFeatures& features) {
  return features.pse36 ? std::min(features.phys_bits, 40u) : 32u;
}

// The physical address of the table or page that a present entry names.
inline Gpa target_of(const PagingContext& context, PagingMode mode, unsigned level,
                     std::uint64_t entry) {
  const Shape shape = shape_of(mode);
  const bool leaf = is_leaf(context, mode, level, entry);
  if (mode == PagingMode::Bits32 && leaf && level == 2)
    return (entry & 0xffc00000) |
           (bits(entry, 20, 13) & low_mask(pse36_bits(context.features) - 32)) << 32;
  const std::uint64_t address = entry & 0x000ffffffffff000;
  return leaf ? align_down(address, 1ull << shift_of(shape, level)) : address;
}

}  // namespace vmm::page_tables
