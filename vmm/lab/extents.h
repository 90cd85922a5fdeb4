// Files with holes on their way through a stream: only the parts that hold data are sent.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;  // bytes

  bool operator==(const Extent&) const = default;
};

// More would make a message too long; what lies behind the last counts as data then.
constexpr std::size_t kMaxExtents = 4096;
constexpr std::uint64_t kLargestSparseFile = std::uint64_t{1} << 40;

// The parts of an open file of `size` bytes that hold data, in order; the whole file where the file
// system does not tell.
std::vector<Extent> data_extents(int fd, std::uint64_t size);
std::uint64_t bytes_in(const std::vector<Extent>& extents);
// Whether each has bytes, lies within a file of `size` bytes and behind the one before.
bool are_extents_of(const std::vector<Extent>& extents, std::uint64_t size);

// Moves a descriptor along extents as the bytes of a stream go by.
class ExtentWalk {
 public:
  explicit ExtentWalk(std::vector<Extent> extents) : extents_(std::move(extents)) {}

  // Sets `fd` to where byte `position` of the stream belongs, which is never less than it was at
  // the call before, and returns how many bytes may follow it there: 0 behind the last, or -errno.
  long move(int fd, std::uint64_t position);

 private:
  std::vector<Extent> extents_;
  std::size_t current_ = 0;
  std::uint64_t begin_ = 0;  // of the current extent, in the stream
  bool entered_ = false;
};

}  // namespace vmm
