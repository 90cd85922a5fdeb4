// All of a read or write that the kernel may do in parts.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>

namespace vmm {

// Moves all of `size` bytes with `call`, which gets how many are done and returns what pread() or
// pwrite() did. False: an error, or the file was cut short.
template <typename Call>
bool move_all(std::size_t size, const Call& call) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t count = call(done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;  // 0: the file was cut short
    done += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace vmm
