#include "vmm/lab/inputs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "vmm/base/fd.h"
#include "vmm/base/sha256.h"
#include "vmm/base/text.h"

namespace vmm {

namespace {

constexpr std::size_t kMaxEntries = 100'000;
constexpr std::size_t kMaxNames = 512 * 1024;  // bytes, of one directory: they go in one message
constexpr std::size_t kReadSize = 256 * 1024;

Error trouble(std::string_view what, const std::string& path, int errno_value) {
  return Error::system(ErrorKind::Usage, fmt::format("{} {}", what, printable(path)), errno_value);
}

Result<InputFile> input_file(const std::string& source, const std::string& path) {
  InputFile file{source, path, {}, {}};
  const Fd fd = VMM_TRY(Fd::open(source, O_RDONLY | O_NONBLOCK));
  if (::fstat(fd.get(), &file.status) != 0) return fail(trouble("stat", source, errno));
  Sha256 digest;
  std::vector<std::uint8_t> buffer(kReadSize);
  for (;;) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(trouble("read", source, errno));
    if (count == 0) break;
    digest.update(std::span(buffer).first(static_cast<std::size_t>(count)));
  }
  file.sha256 = digest.hex();
  return file;
}

Result<std::vector<std::string>> names_in(const std::string& source) {
  std::vector<std::string> names;
  std::error_code error;
  std::size_t bytes = 0;
  for (std::filesystem::directory_iterator it(source, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().native());
    bytes += names.back().size();
    if (names.size() > kMaxEntries || bytes > kMaxNames)
      return fail(Error::usage(
          fmt::format("{} has too many entries to be brought into the lab", printable(source))));
  }
  if (error) return fail(trouble("list", source, error.value()));
  std::sort(names.begin(), names.end());
  return names;
}

Result<InputLink> input_link(const std::string& source, const std::string& path) {
  std::error_code error;
  const auto target = std::filesystem::read_symlink(source, error);
  if (error) return fail(trouble("read the link", source, error.value()));
  return InputLink{path, target.native()};
}

Result<void> collect(const std::string& source, const std::string& path, bool follow,
                     std::vector<Input>& inputs) {
  if (inputs.size() >= kMaxEntries)
    return fail(Error::usage(
        fmt::format("more than {} files are to be brought into the lab", kMaxEntries)));
  struct stat status {};
  const int result = follow ? ::stat(source.c_str(), &status) : ::lstat(source.c_str(), &status);
  if (result != 0) return fail(trouble("open", source, errno));
  if (S_ISREG(status.st_mode)) {
    inputs.emplace_back(VMM_TRY(input_file(source, path)));
  } else if (S_ISLNK(status.st_mode)) {
    inputs.emplace_back(VMM_TRY(input_link(source, path)));
  } else if (S_ISDIR(status.st_mode)) {
    // The file system bounds the depth: a path has at most 4096 bytes.
    const auto names = VMM_TRY(names_in(source));
    inputs.emplace_back(InputDirectory{path, status.st_mode & 07777, names});
    for (const std::string& name : names)
      VMM_TRY(collect(source + "/" + name, path == "/" ? "/" + name : path + "/" + name, false,
                      inputs));
  } else if (follow) {
    return fail(Error::usage(fmt::format(
        "{} is neither a file nor a directory, and the lab can have no other", printable(source))));
  }
  return {};
}

}  // namespace

std::string lab_path(const std::string& path, const std::string& directory) {
  const std::filesystem::path whole = std::filesystem::path(directory) / path;
  std::string text = whole.lexically_normal().native();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

Result<void> collect_inputs(const std::string& source, const std::string& path,
                            std::vector<Input>& inputs) {
  return collect(source, path, true, inputs);
}

bool is_unchanged(const InputFile& file, const struct stat& status) {
  const struct stat& before = file.status;
  return status.st_dev == before.st_dev && status.st_ino == before.st_ino &&
         status.st_size == before.st_size && status.st_mtim.tv_sec == before.st_mtim.tv_sec &&
         status.st_mtim.tv_nsec == before.st_mtim.tv_nsec;
}

}  // namespace vmm
