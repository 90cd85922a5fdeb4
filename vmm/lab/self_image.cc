#include "vmm/lab/self_image.h"

#include <fmt/format.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <fstream>

#include "vmm/base/text.h"

namespace vmm {
namespace {

constexpr const char* kLoaderCache = "/etc/ld.so.cache";

struct LoadedObjects {
  std::string interpreter;
  std::vector<std::string> names;
};

int collect(dl_phdr_info* info, std::size_t, void* opaque) {
  auto& objects = *static_cast<LoadedObjects*>(opaque);
  const std::string_view name = info->dlpi_name != nullptr ? info->dlpi_name : "";
  if (name.empty()) {
    // The program itself. Its interpreter's name lies in its own mapping.
    for (unsigned i = 0; i < info->dlpi_phnum; ++i)
      if (info->dlpi_phdr[i].p_type == PT_INTERP)
        // An address is all that the dynamic loader gives.
        objects.interpreter = reinterpret_cast<const char*>(  // NOLINT(performance-no-int-to-ptr)
            info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    return 0;
  }
  // The kernel's vDSO has a name but no file.
  if (name.find('/') != name.npos) objects.names.emplace_back(name);
  return 0;
}

Error changed(std::string_view path) {
  return Error::lab(fmt::format("{} was replaced or deleted while it runs, so that it cannot be "
                                "copied into a lab",
                                printable(path)))
      .hint("start the program again");
}

Result<std::string> own_path() {
  std::array<char, PATH_MAX> buffer{};
  const ssize_t size = ::readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (size < 0) return fail(Error::system(ErrorKind::Lab, "readlink /proc/self/exe", errno));
  const std::string path(buffer.data(), static_cast<std::size_t>(size));
  struct stat running {};
  struct stat named {};
  if (::stat("/proc/self/exe", &running) != 0)
    return fail(Error::system(ErrorKind::Lab, "stat /proc/self/exe", errno));
  if (::stat(path.c_str(), &named) != 0 || running.st_dev != named.st_dev ||
      running.st_ino != named.st_ino)
    return fail(changed(path));
  return path;
}

// The kernel marks mappings of files that are no longer at their path.
Result<void> check_mappings() {
  constexpr std::string_view kDeleted = " (deleted)";
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    const std::size_t slash = line.find('/');
    if (slash == line.npos || !line.ends_with(kDeleted)) continue;
    // Columns: range, permissions, offset, device, inode, path. Data files and shared memory may
    // well be deleted; code may not.
    const std::size_t permissions = line.find(' ');
    if (line.size() < permissions + 4 || line[permissions + 3] != 'x') continue;
    return fail(changed(line.substr(slash, line.size() - slash - kDeleted.size())));
  }
  return {};
}

// Where the loader looks without its cache (Debian's multiarch directories and the plain ones).
bool is_default_place(const std::string& path) {
  static const std::array<std::string, 6> kPlaces = {"/lib/x86_64-linux-gnu",
                                                     "/usr/lib/x86_64-linux-gnu",
                                                     "/lib64",
                                                     "/usr/lib64",
                                                     "/lib",
                                                     "/usr/lib"};
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return std::find(kPlaces.begin(), kPlaces.end(), parent) != kPlaces.end();
}

}  // namespace

Result<SelfImage> self_image() {
  SelfImage self;
  self.program = VMM_TRY(own_path());
  VMM_TRY(check_mappings());
  LoadedObjects objects;
  ::dl_iterate_phdr(collect, &objects);

  const auto add = [&self](const std::string& name) -> Result<void> {
    std::error_code error;
    const std::string path = std::filesystem::absolute(name, error).lexically_normal().string();
    if (error || ::access(path.c_str(), R_OK) != 0)
      return fail(Error::system(ErrorKind::Lab, fmt::format("read {}", printable(name)), errno));
    if (std::find(self.files.begin(), self.files.end(), path) == self.files.end())
      self.files.push_back(path);
    return {};
  };
  VMM_TRY(add(self.program));
  if (!objects.interpreter.empty()) VMM_TRY(add(objects.interpreter));
  for (const std::string& name : objects.names) VMM_TRY(add(name));
  const bool needs_cache =
      std::any_of(self.files.begin() + 1, self.files.end(),
                  [](const std::string& path) { return !is_default_place(path); });
  if (needs_cache && ::access(kLoaderCache, R_OK) == 0) VMM_TRY(add(kLoaderCache));
  return self;
}

}  // namespace vmm
