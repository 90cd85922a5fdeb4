#include "vmm/base/fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>

#include "vmm/base/bytes.h"
#include "vmm/base/fault.h"
#include "vmm/base/text.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

constexpr std::size_t kPage = 4_KiB;
constexpr std::size_t kHugePage = 2_MiB;

std::size_t bytes_to_next(const void* address, std::size_t alignment) {
  const auto value = reinterpret_cast<std::uintptr_t>(address);
  return align_up(value, alignment) - value;
}

}  // namespace

Result<Fd> Fd::open(const std::string& path, int flags, ErrorKind kind, unsigned mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return fail(Error::system(kind, fmt::format("open {}", printable(path)), errno));
  return Fd(fd);
}

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

int Fd::ioctl_raw(const IoctlRequest& request, unsigned long argument) const {
  if (const int fault = planned_fault(request.name); fault != 0) return -fault;
  const int result = ::ioctl(fd_, request.number, argument);
  return result < 0 ? -errno : result;
}

Result<int> Fd::ioctl(const IoctlRequest& request, unsigned long argument,
                      std::string_view detail) const {
  const int result = ioctl_raw(request, argument);
  if (result >= 0) return result;
  Error error = Error::system(ErrorKind::Host, request.name, -result, detail);
  // KVM_BUG_ON() marks the VM, and every later call is answered so.
  if (result == -EIO && std::string_view(request.name).starts_with("KVM_"))
    return fail(std::move(error).hint(
        "KVM has given this VM up for a fault of its own; the host kernel's log has a warning"));
  return fail(std::move(error));
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Result<Mapping> Mapping::anonymous(std::size_t size) {
  // What is too much at the front for the alignment, and behind the end, is given back.
  const std::size_t surplus = size >= kHugePage ? kHugePage - kPage : 0;
  if (size > SIZE_MAX - surplus)
    return fail(
        Error::system(ErrorKind::Host, fmt::format("mmap of {}", format_size(size)), ENOMEM));
  void* address = ::mmap(nullptr, size + surplus, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED)
    return fail(
        Error::system(ErrorKind::Host, fmt::format("mmap of {}", format_size(size)), errno));
  std::span<std::uint8_t> bytes(static_cast<std::uint8_t*>(address), size);
  if (surplus != 0) {
    const std::size_t front = bytes_to_next(address, kHugePage);
    bytes = {bytes.data() + front, size};
    std::uint8_t* const end = bytes.data() + align_up(size, kPage);
    if (front != 0) ::munmap(address, front);
    if (front != surplus) ::munmap(end, surplus - front);
  }
  return Mapping(bytes);
}

Result<Mapping> Mapping::shared(const Fd& fd, std::size_t size) {
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED)
    return fail(
        Error::system(ErrorKind::Host, fmt::format("mmap of {}", format_size(size)), errno));
  return Mapping({static_cast<std::uint8_t*>(address), size});
}

void prefer_huge_pages(std::span<std::uint8_t> bytes) {
  const std::size_t front = bytes_to_next(bytes.data(), kPage);
  if (bytes.size() < front + kHugePage) return;
  ::madvise(bytes.data() + front, bytes.size() - front, MADV_HUGEPAGE);
}

Result<std::vector<std::uint8_t>> read_file(const std::string& path, std::size_t max_size,
                                            ErrorKind kind) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const Fd fd = VMM_TRY(Fd::open(path, O_RDONLY | O_NONBLOCK, kind));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0)
    return fail(Error::system(kind, fmt::format("stat {}", printable(path)), errno));
  if (S_ISDIR(status.st_mode))
    return fail(Error(kind, fmt::format("{} is a directory", printable(path))));
  if (!S_ISREG(status.st_mode))
    return fail(Error(kind, fmt::format("{} is not a regular file", printable(path))));
  if (static_cast<std::uint64_t>(status.st_size) > max_size)
    return fail(Error(kind, fmt::format("{} has {} bytes; the limit is {}", printable(path),
                                        status.st_size, format_size(max_size))));
  const auto size = static_cast<std::size_t>(status.st_size);
  std::vector<std::uint8_t> bytes;
  bytes.reserve(size);
  prefer_huge_pages({bytes.data(), size});
  bytes.resize(size);
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::read(fd.get(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(Error::system(kind, fmt::format("read {}", printable(path)), errno));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

namespace {

// 0, or the errno of the write that failed.
int write_all(const Fd& fd, std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return 0;
}

}  // namespace

Result<void> write_file(const std::string& path, std::span<const std::uint8_t> bytes) {
  const std::string temporary = fmt::format("{}.{}.tmp", path, ::getpid());
  const Fd fd = VMM_TRY(Fd::open(temporary, O_WRONLY | O_CREAT | O_TRUNC));
  int reason = write_all(fd, bytes);
  if (reason == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) reason = errno;
  if (reason == 0) return {};
  ::unlink(temporary.c_str());
  return fail(Error::system(ErrorKind::Usage, fmt::format("write {}", printable(path)), reason));
}

Result<void> replace_contents(const Fd& fd, std::span<const std::uint8_t> bytes,
                              std::string_view path) {
  int reason = ::ftruncate(fd.get(), 0) == 0 ? 0 : errno;
  if (reason == EINVAL) reason = 0;  // a pipe or a device has no length to cut
  if (reason == 0 && ::lseek(fd.get(), 0, SEEK_SET) < 0 && errno != ESPIPE) reason = errno;
  if (reason == 0) reason = write_all(fd, bytes);
  if (reason == 0) return {};
  return fail(Error::system(ErrorKind::Usage, fmt::format("write {}", printable(path)), reason));
}

std::optional<TerminalSize> terminal_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return std::nullopt;
  return TerminalSize{size.ws_row, size.ws_col};
}

std::optional<std::string> read_first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return std::string(trim(line));
}

}  // namespace vmm
