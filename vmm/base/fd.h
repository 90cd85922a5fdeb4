// Owners of descriptors and mappings, and the one place where an ioctl is made.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// An ioctl with its name, so that an error reads "KVM_SET_CPUID2: E2BIG (nent=81)".
struct IoctlRequest {
  unsigned long number;
  const char* name;
};

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = other.release();
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  // open(2) with O_CLOEXEC; the error names the path and the errno (of kind `kind`).
  static Result<Fd> open(const std::string& path, int flags, ErrorKind kind = ErrorKind::Usage,
                         unsigned mode = 0644);

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

  // The ioctl's result (>= 0), or an error of kind Host with the errno. `detail` is shown after it
  // ("nent=81"). EINTR is an error like any other. Planned faults (fault.h) strike here.
  Result<int> ioctl(const IoctlRequest& request, unsigned long argument = 0,
                    std::string_view detail = {}) const;
  template <typename T>
  Result<int> ioctl(const IoctlRequest& request, T* argument, std::string_view detail = {}) const {
    return ioctl(request, reinterpret_cast<unsigned long>(argument), detail);
  }
  // As ioctl(), for hot paths: -errno instead of an Error.
  int ioctl_raw(const IoctlRequest& request, unsigned long argument) const;

 private:
  int fd_ = -1;
};

// A mapping that is unmapped with its owner.
class Mapping {
 public:
  Mapping() = default;
  ~Mapping();
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  // Zero pages, private, not reserved in advance and not prefaulted; from 2 MiB on it begins at a
  // multiple of 2 MiB, so that huge pages fit.
  static Result<Mapping> anonymous(std::size_t size);
  // The first `size` bytes of `fd`, shared, readable and writable.
  static Result<Mapping> shared(const Fd& fd, std::size_t size);

  std::span<std::uint8_t> bytes() const { return bytes_; }

 private:
  explicit Mapping(std::span<std::uint8_t> bytes) : bytes_(bytes) {}
  std::span<std::uint8_t> bytes_;
};

// A hint that nearly all of these bytes will be written: their first writes may then come to one
// page fault for 2 MiB instead of 4 KiB. What is never written still costs next to nothing. Without
// transparent huge pages, or for less than one, nothing happens.
void prefer_huge_pages(std::span<std::uint8_t> bytes);

// The whole of a regular file of at most `max_size` bytes. Directories, devices, larger and
// unreadable files are errors of kind `kind` that name the path.
Result<std::vector<std::uint8_t>> read_file(const std::string& path, std::size_t max_size,
                                            ErrorKind kind);
// Replaces the file at once (temporary file beside it, then rename).
Result<void> write_file(const std::string& path, std::span<const std::uint8_t> bytes);
// Makes `bytes` the whole content of a file that is open for writing (a pipe just gets them).
Result<void> replace_contents(const Fd& fd, std::span<const std::uint8_t> bytes,
                              std::string_view path);
// Rows and columns of a terminal; nothing when `fd` is none.
struct TerminalSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};
std::optional<TerminalSize> terminal_size(int fd);
// The first line of a small file such as a module parameter; nothing when it cannot be read.
std::optional<std::string> read_first_line(const std::string& path);

}  // namespace vmm
