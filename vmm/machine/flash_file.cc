#include "vmm/machine/flash_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "vmm/base/check.h"
#include "vmm/base/text.h"
#include "vmm/disk/move_all.h"

namespace vmm {
namespace {

class FileMedium final : public FlashMedium {
 public:
  explicit FileMedium(Fd fd) : fd_(std::move(fd)) {}

  bool write(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return move_all(data.size(), [&](std::size_t done) {
      return ::pwrite(fd_.get(), data.data() + done, data.size() - done,
                      static_cast<off_t>(offset + done));
    });
  }
  bool sync() override {
    int result = 0;
    do {
      result = ::fdatasync(fd_.get());
    } while (result != 0 && errno == EINTR);
    return result == 0;
  }

 private:
  Fd fd_;  // with the lock
};

Error trouble(const std::string& path, std::string_view why) {
  return Error::image(std::string(why)).at(printable(path)).context("--vars");
}

Result<void> lock(const Fd& fd, const std::string& path, bool alone) {
  if (::flock(fd.get(), (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK)
    return fail(
        Error::system(ErrorKind::Image, fmt::format("--vars: lock {}", printable(path)), errno));
  return fail(trouble(path, alone ? "another guest uses it, and this one would write to it"
                                  : "another guest may write to it")
                  .hint(alone ? "end the other one, or give each guest a store of its own; ,copy "
                                "makes a private one while nobody writes"
                              : "end the other one, or work on a copy of the file"));
}

}  // namespace

Result<VarsSpec> parse_vars(std::string_view text) {
  VarsSpec spec;
  const auto ends = [&](std::string_view suffix, VarsSpec::Mode mode) {
    if (!text.ends_with(suffix)) return;
    text.remove_suffix(suffix.size());
    spec.mode = mode;
  };
  ends(",copy", VarsSpec::Mode::Copy);
  if (spec.mode == VarsSpec::Mode::Write) ends(",ro", VarsSpec::Mode::ReadOnly);
  if (text.empty()) return fail(Error::usage("--vars needs a file: FILE, FILE,copy or FILE,ro"));
  spec.path = text;
  return spec;
}

std::string vars_text(const VarsSpec& spec) {
  switch (spec.mode) {
    case VarsSpec::Mode::Write:
      break;
    case VarsSpec::Mode::Copy:
      return spec.path + ",copy";
    case VarsSpec::Mode::ReadOnly:
      return spec.path + ",ro";
  }
  return spec.path;
}

Result<std::unique_ptr<FlashFile>> FlashFile::open(const VarsSpec& spec) {
  const bool alone = spec.mode == VarsSpec::Mode::Write;
  // Without O_NONBLOCK a FIFO would wait for its other end.
  Result<Fd> opened =
      Fd::open(spec.path, (alone ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY, ErrorKind::Image);
  if (!opened) {
    Error error = std::move(opened).error().context("--vars");
    if (alone && ::access(spec.path.c_str(), R_OK) == 0)
      return fail(
          std::move(error).hint("it can be read: with ,copy the guest writes to a private "
                                "copy, which ends with the run"));
    return fail(std::move(error));
  }
  Fd fd = *std::move(opened);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0)
    return fail(Error::system(ErrorKind::Image,
                              fmt::format("--vars: stat {}", printable(spec.path)), errno));
  if (!S_ISREG(status.st_mode)) return fail(trouble(spec.path, "this is no regular file"));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size == 0 || size > kMaxSize || size % kPageSize != 0)
    return fail(
        trouble(spec.path, fmt::format("a variable store has 4 KiB to 16 MiB, in whole 4 KiB; this "
                                       "file has {} bytes",
                                       size))
            .hint("begin with a copy of /usr/share/OVMF/OVMF_VARS_4M.fd"));
  VMM_TRY(lock(fd, spec.path, alone));
  std::vector<std::uint8_t> content(size);
  if (!move_all(content.size(), [&](std::size_t done) {
        return ::pread(fd.get(), content.data() + done, content.size() - done,
                       static_cast<off_t>(done));
      }))
    return fail(Error::system(ErrorKind::Image,
                              fmt::format("--vars: read {}", printable(spec.path)), errno));
  return create(content, spec.mode, alone ? std::make_unique<FileMedium>(std::move(fd)) : nullptr);
}

Result<std::unique_ptr<FlashFile>> FlashFile::create(std::span<const std::uint8_t> content,
                                                     VarsSpec::Mode mode,
                                                     std::unique_ptr<FlashMedium> medium) {
  Mapping memory = VMM_TRY(Mapping::anonymous(content.size()));
  std::ranges::copy(content, memory.bytes().begin());
  return std::unique_ptr<FlashFile>(new FlashFile(std::move(memory), mode, std::move(medium)));
}

bool FlashFile::keep(std::uint64_t offset, std::span<const std::uint8_t> data) {
  const std::uint64_t page = offset / kPageSize;
  if (behind_ && *behind_ != page && !sync()) return false;
  behind_ = page;
  return medium_->write(offset, data);
}

bool FlashFile::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  VMM_CHECK(offset <= memory_.bytes().size() && data.size() <= memory_.bytes().size() - offset,
            "a flash chip writes within its store");
  if (!is_writable()) return false;
  while (!data.empty()) {
    const std::size_t count = static_cast<std::size_t>(
        std::min<std::uint64_t>(data.size(), kPageSize - offset % kPageSize));
    const auto part = data.first(count);
    if (medium_ != nullptr && !keep(offset, part)) {
      ++failures_;
      return false;
    }
    std::ranges::copy(part, memory_.bytes().begin() + static_cast<std::ptrdiff_t>(offset));
    offset += count;
    data = data.subspan(count);
  }
  return true;
}

bool FlashFile::sync() {
  if (!behind_) return true;
  if (!medium_->sync()) return false;
  behind_.reset();
  return true;
}

}  // namespace vmm
