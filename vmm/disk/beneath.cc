#include "vmm/disk/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vmm {
namespace {

Fd open_resolved(const Fd& directory, const char* path, int flags, unsigned mode,
                 std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | resolve;
  return Fd(static_cast<int>(::syscall(SYS_openat2, directory.get(), path, &how, sizeof how)));
}

}  // namespace

Fd open_beneath(const Fd& directory, const char* path, int flags) {
  return open_resolved(directory, path, flags, 0, 0);
}

Fd open_beneath_no_links(const Fd& directory, const char* path, int flags, unsigned mode) {
  return open_resolved(directory, path, flags, mode, RESOLVE_NO_SYMLINKS);
}

}  // namespace vmm
