#include "vmm/lab/agent/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "vmm/base/text.h"

namespace vmm {

namespace {

Error trouble(std::string_view what, const std::string& path, int errno_value) {
  return Error::system(ErrorKind::Lab, fmt::format("{} {} in the lab", what, printable(path)),
                       errno_value);
}

// The host sends absolute paths without "..".
Result<void> check_path(const std::string& path) {
  const bool sound = !path.empty() && path[0] == '/' && path.find('\0') == path.npos;
  if (sound) return {};
  return fail(Error::lab(fmt::format("'{}' is no path of the lab", printable(path))));
}

int remove_all(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error.value();
}

// One directory; whatever else has its name gives way, except a link to a directory.
int make_one(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return 0;
  if (::lstat(path.c_str(), &status) == 0) ::unlink(path.c_str());
  return ::mkdir(path.c_str(), 0755) == 0 ? 0 : errno;
}

// `path` and all above it.
Result<void> make_path(const std::string& path) {
  for (std::size_t end = 0; end != path.npos;) {
    end = path.find('/', end + 1);
    const std::string part = path.substr(0, end);
    if (const int reason = make_one(part); reason != 0)
      return fail(trouble("make the directory", part, reason));
  }
  return {};
}

Result<void> make_parents(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == 0) return {};
  return make_path(path.substr(0, slash));
}

// Frees the name for something that is no directory.
Result<void> make_way(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return {};
  const int reason = remove_all(path);
  if (reason != 0) return fail(trouble("remove", path, reason));
  return {};
}

Result<void> keep_only(const std::string& path, const std::vector<std::string>& names) {
  const std::set<std::string, std::less<>> wanted(names.begin(), names.end());
  std::vector<std::string> superfluous;
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end;
       it.increment(error))
    if (!wanted.contains(it->path().filename().native()))
      superfluous.push_back(it->path().native());
  if (error) return fail(trouble("list", path, error.value()));
  for (const std::string& name : superfluous)
    if (const int reason = remove_all(name); reason != 0)
      return fail(trouble("remove", name, reason));
  return {};
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool untouched(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mode == b.st_mode && same_time(a.st_mtim, b.st_mtim) &&
         same_time(a.st_ctim, b.st_ctim);
}

}  // namespace

Result<void> make_lab_directory(const MakeDirectory& make) {
  VMM_TRY(check_path(make.path));
  VMM_TRY(make_path(make.path));
  // As root the agent writes into it whatever its mode is.
  if (make.mode && ::chmod(make.path.c_str(), *make.mode) != 0)
    return fail(trouble("change the mode of", make.path, errno));
  if (make.names) return keep_only(make.path, *make.names);
  return {};
}

Result<void> make_lab_link(const MakeLink& make) {
  VMM_TRY(check_path(make.path));
  VMM_TRY(make_parents(make.path));
  VMM_TRY(make_way(make.path));
  const std::string temporary = make.path + ".vmm-lab";
  ::unlink(temporary.c_str());
  if (::symlink(make.target.c_str(), temporary.c_str()) != 0 ||
      ::rename(temporary.c_str(), make.path.c_str()) != 0)
    return fail(trouble("make the link", make.path, errno));
  return {};
}

Result<void> remove_lab_file(const RemoveFile& remove) {
  VMM_TRY(check_path(remove.path));
  struct stat status {};
  if (::lstat(remove.path.c_str(), &status) != 0) return {};
  if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode) && !S_ISSOCK(status.st_mode)) return {};
  if (::unlink(remove.path.c_str()) != 0) return fail(trouble("remove", remove.path, errno));
  return {};
}

std::vector<std::uint32_t> LabFiles::missing(const std::vector<FileDigest>& files) const {
  std::vector<std::uint32_t> indices;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const FileDigest& file = files[i];
    const auto known = known_.find(file.path);
    struct stat status {};
    const bool held = known != known_.end() && known->second.sha256 == file.sha256 &&
                      ::lstat(file.path.c_str(), &status) == 0 &&
                      untouched(status, known->second.status) &&
                      (status.st_mode & 07777) == file.mode;
    if (!held) indices.push_back(static_cast<std::uint32_t>(i));
  }
  return indices;
}

void LabFiles::remember(const FileDigest& file) {
  struct stat status {};
  if (::lstat(file.path.c_str(), &status) == 0) known_[file.path] = {file.sha256, status};
}

Result<IncomingFile> IncomingFile::begin(const FileDigest& file) {
  VMM_TRY(check_path(file.path));
  VMM_TRY(make_parents(file.path));
  std::string temporary = file.path + ".vmm-lab";
  ::unlink(temporary.c_str());
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return fail(trouble("make", file.path, errno));
  return IncomingFile(file, std::move(temporary), std::move(fd));
}

IncomingFile::IncomingFile(IncomingFile&& other) noexcept
    : file_(std::move(other.file_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::move(other.fd_)) {}

IncomingFile::~IncomingFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<void> IncomingFile::set_size(std::uint64_t size) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0)
    return fail(trouble("make", file_.path, errno));
  return {};
}

Result<void> IncomingFile::finish() {
  VMM_TRY(make_way(file_.path));
  if (::chmod(temporary_.c_str(), file_.mode) != 0 ||
      ::rename(temporary_.c_str(), file_.path.c_str()) != 0)
    return fail(trouble("put", file_.path, errno));
  temporary_.clear();
  return {};
}

Result<std::optional<OutgoingFile>> open_lab_file(const GetFile& get) {
  VMM_TRY(check_path(get.path));
  OutgoingFile file;
  struct stat status {};
  // A FIFO is neither waited for nor read.
  if (::stat(get.path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  file.fd = Fd(::open(get.path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file.fd || ::fstat(file.fd.get(), &status) != 0)
    return fail(trouble("read", get.path, errno));
  file.size = static_cast<std::uint64_t>(status.st_size);
  file.mode = status.st_mode & 07777;
  if (get.holes && file.size <= kLargestSparseFile)
    file.extents = data_extents(file.fd.get(), file.size);
  if (file.bytes() > get.limit)
    return fail(Error::lab(fmt::format("{} in the lab has {} bytes; the limit is {}",
                                       printable(get.path), file.bytes(), get.limit)));
  return file;
}

}  // namespace vmm
