#include "vmm/disk/writable_share.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/disk/share_writer.h"

namespace vmm {
namespace {

// What would fail at the end, when it is too late to choose something else.
Result<void> check_writable(const Fd& directory, const std::string& path) {
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return fail(Error::system(ErrorKind::Image, fmt::format("lock {}", printable(path)), errno));
    return fail(
        Error::image("another guest writes to this directory")
            .at(printable(path))
            .hint("end the other one, or give this one a writable copy in memory: ,overlay"));
  }
  if (::faccessat(directory.get(), ".", W_OK | X_OK, AT_EACCESS) != 0)
    return fail(
        Error::system(ErrorKind::Image, fmt::format("{} is not writable", printable(path)), errno)
            .hint("with ,overlay the guest writes to memory alone"));
  struct stat status {};
  if (::fstatat(directory.get(), ShareWriter::kStaging, &status, AT_SYMLINK_NOFOLLOW) == 0)
    return fail(Error::image(fmt::format("{} is in it: a run ended while it wrote there",
                                         ShareWriter::kStaging))
                    .at(printable(path))
                    .hint("look whether it has files that you miss, then remove it"));
  return {};
}

}  // namespace

Result<std::unique_ptr<BlockBackend>> WritableShare::open(const std::string& path, std::string id,
                                                          End end) {
  std::unique_ptr<ShareDisk> share =
      VMM_TRY(ShareDisk::open(path, std::move(id), OverlayDisk::kMost));
  if (end == End::WriteBack) VMM_TRY(check_writable(share->directory(), path));
  ShareDisk& below = *share;
  auto overlay = VMM_TRY(OverlayDisk::create(std::move(share)));
  return std::unique_ptr<BlockBackend>(new WritableShare(below, std::move(overlay), end));
}

std::vector<std::string> WritableShare::finish() {
  if (end_ == End::Forget) return overlay_->finish();
  return ShareWriter(below_.directory(), below_.tree(), *overlay_).run();
}

}  // namespace vmm
