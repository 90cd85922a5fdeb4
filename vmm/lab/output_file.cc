#include "vmm/lab/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "vmm/base/text.h"

namespace vmm {

Result<OutputFile> OutputFile::begin(const std::string& path) {
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (exists && !S_ISREG(status.st_mode)) {
    Fd fd = VMM_TRY(Fd::open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY));
    return OutputFile(path, "", {std::move(fd), SinkKind::Plain}, false);
  }
  // What a link leads to is replaced, not the link.
  std::error_code error;
  const auto real = exists ? std::filesystem::canonical(path, error) : std::filesystem::path(path);
  const std::string target = error ? path : real.native();
  std::string temporary = fmt::format("{}.{}.tmp", target, ::getpid());
  auto fd = Fd::open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
  if (!fd)
    return fail(Error::system(ErrorKind::Usage, fmt::format("write {}", printable(path)),
                              fd.error().errno_value()));
  if (exists) ::fchmod(fd->get(), status.st_mode & 0777);
  return OutputFile(target, std::move(temporary), {*std::move(fd), SinkKind::Plain}, !exists);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      sink_(std::move(other.sink_)),
      is_new_(other.is_new_) {}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

bool OutputFile::takes_holes(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
}

void OutputFile::restrict_to(unsigned mode) {
  struct stat status {};
  if (is_new_ && ::fstat(sink_.fd.get(), &status) == 0)
    ::fchmod(sink_.fd.get(), status.st_mode & mode & 0777);
}

Result<void> OutputFile::set_size(std::uint64_t size) {
  if (::ftruncate(sink_.fd.get(), static_cast<off_t>(size)) != 0)
    return fail(Error::system(ErrorKind::Usage, fmt::format("write {}", printable(path_)), errno));
  return {};
}

Result<void> OutputFile::finish() {
  if (temporary_.empty()) return {};
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return fail(Error::system(ErrorKind::Usage, fmt::format("write {}", printable(path_)), errno));
  temporary_.clear();
  return {};
}

}  // namespace vmm
