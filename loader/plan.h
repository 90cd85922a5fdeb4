// Where everything that a guest is given stands, before any of it is written.
#pragma once

#include <span>
#include <vector>

#include "loader/boot.h"
#include "loader/boot_info.h"
#include "loader/place.h"

namespace vmm {

struct Plan {
  std::vector<Segment> segments;
  std::uint64_t entry = 0;
  Occupied occupied;
  BootFacts facts;
  // Modules, initrd, symbol tables.
  struct Part {
    Gpa gpa = 0;
    std::span<const std::uint8_t> bytes;
  };
  std::vector<Part> parts;

  Gpa lowest() const { return segments.front().gpa; }
  Gpa highest() const { return segments.back().end(); }
};

// Finds a place for the segments (moved, where the kernel asks for it), modules, initrd and symbol
// tables, and gathers what the guest is told. Points into `image` and `options`. Errors as
// place_image() has them.
Result<Plan> make_plan(const LoadedImage& image, const BootOptions& options,
                       const GuestMemory& memory);

}  // namespace vmm
