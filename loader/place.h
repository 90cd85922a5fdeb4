// Free room in guest RAM. place_image() is declared in loader/boot.h.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/base/units.h"

namespace vmm {

// Which ranges of guest memory are spoken for.
class Occupied {
 public:
  void add(Gpa base, std::uint64_t size);
  // The lowest (highest) multiple of 4 KiB in [low, high) from which `size` bytes are free and end
  // at or before `high`. `size` is at least 1.
  std::optional<Gpa> lowest_free(Gpa low, Gpa high, std::uint64_t size) const;
  std::optional<Gpa> highest_free(Gpa low, Gpa high, std::uint64_t size) const;

 private:
  struct Range {
    Gpa base;
    Gpa end;
  };
  const Range* hit(Gpa base, std::uint64_t size) const;

  std::vector<Range> ranges_;
};

}  // namespace vmm
