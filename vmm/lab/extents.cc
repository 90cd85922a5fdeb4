#include "vmm/lab/extents.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace vmm {

std::vector<Extent> data_extents(int fd, std::uint64_t size) {
  std::vector<Extent> extents;
  const auto end = static_cast<off_t>(size);
  for (off_t at = 0; at < end;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // a hole up to the end
    if (data < 0) return {{0, size}};
    off_t hole = ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return {{0, size}};
    if (data >= end) break;
    if (extents.size() + 1 == kMaxExtents) hole = end;
    hole = std::min(hole, end);
    extents.push_back({static_cast<std::uint64_t>(data), static_cast<std::uint64_t>(hole - data)});
    at = hole;
  }
  return extents;
}

std::uint64_t bytes_in(const std::vector<Extent>& extents) {
  std::uint64_t bytes = 0;
  for (const Extent& extent : extents) bytes += extent.size;
  return bytes;
}

bool are_extents_of(const std::vector<Extent>& extents, std::uint64_t size) {
  std::uint64_t end = 0;
  for (const Extent& extent : extents) {
    if (extent.size == 0 || extent.offset < end || extent.offset > size ||
        extent.size > size - extent.offset)
      return false;
    end = extent.offset + extent.size;
  }
  return true;
}

long ExtentWalk::move(int fd, std::uint64_t position) {
  while (current_ < extents_.size() && position - begin_ >= extents_[current_].size) {
    begin_ += extents_[current_].size;
    ++current_;
    entered_ = false;
  }
  if (current_ == extents_.size()) return 0;
  const Extent& extent = extents_[current_];
  const std::uint64_t within = position - begin_;
  // Inside an extent the descriptor moves by itself.
  if (!entered_ && ::lseek(fd, static_cast<off_t>(extent.offset + within), SEEK_SET) < 0)
    return -errno;
  entered_ = true;
  return static_cast<long>(
      std::min<std::uint64_t>(extent.size - within, std::numeric_limits<long>::max()));
}

}  // namespace vmm
