#include "vmm/disk/raw_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/text.h"
#include "vmm/disk/move_all.h"

namespace vmm {
namespace {

Error refusal(const std::string& path, std::string_view reason) {
  return Error::image(fmt::format("{}: {}", printable(path), reason));
}

// Its size in bytes; a block device says it by where it ends.
Result<std::uint64_t> size_of(const Fd& fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0)
    return fail(Error::system(ErrorKind::Image, fmt::format("stat {}", printable(path)), errno));
  if (S_ISREG(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  if (!S_ISBLK(status.st_mode))
    return fail(refusal(path, "a disk is a regular file or a block device, and this is neither"));
  const off_t end = ::lseek(fd.get(), 0, SEEK_END);
  if (end < 0)
    return fail(Error::system(ErrorKind::Image, fmt::format("seek {}", printable(path)), errno));
  return static_cast<std::uint64_t>(end);
}

}  // namespace

Result<std::unique_ptr<BlockBackend>> RawDisk::open(const std::string& path, bool read_only,
                                                    std::string id) {
  // Without O_NONBLOCK a FIFO would wait for its other end.
  Result<Fd> opened =
      Fd::open(path, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY, ErrorKind::Image);
  if (!opened && !read_only && ::access(path.c_str(), R_OK) == 0)
    return fail(std::move(opened).error().hint("it can be read: with ,ro the guest may"));
  Fd fd = VMM_TRY(std::move(opened));
  const std::uint64_t size = VMM_TRY(size_of(fd, path));
  if (size == 0) return fail(refusal(path, "the disk image is empty"));
  if (size % kSectorSize != 0)
    return fail(
        refusal(path, fmt::format("its {} bytes are no whole number of sectors of 512", size))
            .hint("truncate -s %512 FILE makes it a whole number"));
  if (::flock(fd.get(), (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return fail(Error::system(ErrorKind::Image, fmt::format("lock {}", printable(path)), errno));
    return fail(refusal(path, read_only ? "another guest may write to it"
                                        : "another guest uses it, and this one would write to it")
                    .hint("end the other one, work on a copy, or give it to all with ,ro"));
  }
  return std::unique_ptr<BlockBackend>(new RawDisk(
      std::move(fd), {.sectors = size / kSectorSize, .read_only = read_only, .id = std::move(id)}));
}

bool RawDisk::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  return move_all(data.size(), [&](std::size_t done) {
    return ::pread(fd_.get(), data.data() + done, data.size() - done,
                   static_cast<off_t>(offset + done));
  });
}

bool RawDisk::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  return move_all(data.size(), [&](std::size_t done) {
    return ::pwrite(fd_.get(), data.data() + done, data.size() - done,
                    static_cast<off_t>(offset + done));
  });
}

bool RawDisk::flush() {
  int result = 0;
  do {
    result = ::fdatasync(fd_.get());
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

}  // namespace vmm
