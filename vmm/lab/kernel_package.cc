#include "vmm/lab/kernel_package.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/process.h"
#include "vmm/base/text.h"

namespace vmm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kMetaPackage = "linux-image-cloud-amd64";
constexpr std::chrono::seconds kAptLimit{1800};
constexpr std::chrono::seconds kUnpackLimit{600};

// What every failure to get a kernel ends in.
Error with_manual_way(Error error, const std::string& directory) {
  return std::move(error).hint(fmt::format(
      "put the file of the package that {} depends on (linux-image-*-cloud-amd64_*_amd64.deb, from "
      "any Debian mirror) into {}, or give --lab-kernel and --lab-modules",
      kMetaPackage, printable(directory)));
}

Error disk_error(std::string_view what, const std::string& path, const std::error_code& error) {
  return Error::system(ErrorKind::NoLab, fmt::format("{} {}", what, printable(path)),
                       error.value());
}

// The one entry of `directory` whose name begins with `prefix`.
std::optional<std::string> only_entry(const std::string& directory, std::string_view prefix) {
  std::optional<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    if (found) return std::nullopt;
    found = name;
  }
  return found;
}

// The kernel in an unpacked package.
std::optional<CachedKernel> kernel_in(const std::string& root) {
  constexpr std::string_view kImage = "vmlinuz-";
  const auto image = only_entry(root + "/boot", kImage);
  if (!image) return std::nullopt;
  const std::string release = image->substr(kImage.size());
  // Debian 13 and later have moved /lib.
  for (const char* place : {"lib", "usr/lib"}) {
    const std::string modules = fmt::format("{}/{}/modules/{}", root, place, release);
    std::error_code error;
    if (fs::is_directory(modules, error))
      return CachedKernel{.image = fmt::format("{}/boot/{}", root, *image), .modules = modules};
  }
  return std::nullopt;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error); !error && entry != fs::directory_iterator();
       entry.increment(error))
    names.push_back(entry->path().filename().string());
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return ::strverscmp(a.c_str(), b.c_str()) < 0;
  });
  return names;
}

// Holds the cache's lock until it is closed, or its process ends in any way.
Result<Fd> lock(const std::string& path, int cancel) {
  Fd file = VMM_TRY(Fd::open(path, O_RDWR | O_CREAT, ErrorKind::NoLab));
  bool told = false;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK)
      return fail(Error::system(ErrorKind::NoLab, fmt::format("lock {}", printable(path)), errno));
    if (!told) log_info("another process is fetching the lab's kernel; waiting for it");
    told = true;
    if (VMM_TRY(wait_for_cancel(cancel, std::chrono::milliseconds(100))))
      return fail(Error::lab("interrupted while another process fetches the lab's kernel"));
  }
  return file;
}

// Removes the half-done work however its owner leaves.
struct WorkDirectory {
  explicit WorkDirectory(std::string directory) : path(std::move(directory)) {}
  ~WorkDirectory() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;
  std::string path;
};

bool is_package_name(std::string_view name) {
  return name.starts_with("linux-image-") && name.size() < 128 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.+-") == name.npos;
}

// apt with package lists of its own below `work`: for those who are not root, for images whose
// lists were removed, and so that the machine's own state stays as it is.
std::vector<std::string> private_apt(const std::string& program, const std::string& work) {
  return {program,
          "-o",
          fmt::format("Dir::State::lists={}/lists", work),
          "-o",
          fmt::format("Dir::Cache={}/cache", work),
          "-o",
          "APT::Sandbox::User=root"};
}

std::vector<std::string> operator+(std::vector<std::string> head,
                                   const std::vector<std::string>& tail) {
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

}  // namespace

Result<std::string> lab_cache_directory() {
  const auto absolute = [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    if (value == nullptr || *value != '/') return std::nullopt;
    return value;
  };
  if (const auto cache = absolute("XDG_CACHE_HOME")) return *cache + "/vmm";
  if (const auto home = absolute("HOME")) return *home + "/.cache/vmm";
  return fail(Error::no_lab("there is no place for the lab's kernel: neither XDG_CACHE_HOME nor "
                            "HOME is an absolute path")
                  .hint("set XDG_CACHE_HOME"));
}

std::optional<std::string> depended_kernel(std::string_view apt_output) {
  constexpr std::string_view kDepends = "Depends:";
  for (const std::string_view line : split(apt_output, '\n')) {
    const std::string_view text = trim(line);
    if (!text.starts_with(kDepends)) continue;
    const std::string_view name = trim(text.substr(kDepends.size()));
    if (is_package_name(name)) return std::string(name);
  }
  return std::nullopt;
}

std::optional<CachedKernel> KernelCache::newest() const {
  std::optional<CachedKernel> found;
  for (const std::string& name : names_in(directory_)) {
    if (name.starts_with('.')) continue;
    if (auto kernel = kernel_in(fmt::format("{}/{}", directory_, name))) found = std::move(kernel);
  }
  return found;
}

// Those without a directory of their name.
std::vector<std::string> KernelCache::packages_to_unpack() const {
  std::vector<std::string> packages;
  for (const std::string& name : names_in(directory_)) {
    std::string path = fmt::format("{}/{}", directory_, name);
    std::error_code error;
    if (!name.starts_with('.') && name.ends_with(".deb") &&
        !fs::is_directory(path.substr(0, path.size() - 4), error))
      packages.push_back(std::move(path));
  }
  return packages;
}

Result<CachedKernel> KernelCache::obtain(int cancel) const {
  if (packages_to_unpack().empty())
    if (auto kernel = newest()) return *kernel;
  auto result = fill(cancel);
  if (!result && result.error().kind() == ErrorKind::NoLab)
    return fail(with_manual_way(std::move(result).error(), directory_));
  return result;
}

Result<CachedKernel> KernelCache::fill(int cancel) const {
  std::error_code error;
  fs::create_directories(directory_, error);
  if (error) return fail(disk_error("create", directory_, error));
  const Fd held = VMM_TRY(lock(directory_ + "/lock", cancel));
  const WorkDirectory area(work());
  fs::remove_all(area.path, error);  // what an interrupted run left
  if (error) return fail(disk_error("remove", area.path, error));
  for (const char* part : {"root", "lists/partial", "cache/archives/partial"}) {
    const std::string path = fmt::format("{}/{}", area.path, part);
    fs::create_directories(path, error);
    if (error) return fail(disk_error("create", path, error));
  }

  for (const std::string& package : packages_to_unpack()) VMM_TRY(unpack(package, cancel));
  if (auto kernel = newest()) return *kernel;
  const std::string package = VMM_TRY(download(cancel));
  VMM_TRY(unpack(package, cancel));
  if (auto kernel = newest()) return *kernel;
  return fail(Error::no_lab(fmt::format("{} was unpacked, but holds no kernel", package)));
}

Result<void> KernelCache::unpack(const std::string& package, int cancel) const {
  const std::string root = work() + "/root";
  const ToolRun run =
      VMM_TRY(run_tool({"dpkg-deb", "-x", package, root}, work(), kUnpackLimit, cancel));
  if (!run.ok)
    return fail(
        Error::no_lab(fmt::format("{} could not be unpacked: {}", printable(package), run.death)));
  if (!kernel_in(root))
    return fail(Error::no_lab(
        fmt::format("{} is no kernel package: it does not hold boot/vmlinuz-RELEASE and "
                    "lib/modules/RELEASE",
                    printable(package))));
  const std::string name = fs::path(package).stem().string();
  const std::string target = fmt::format("{}/{}", directory_, name);
  std::error_code error;
  fs::rename(root, target, error);
  if (error) return fail(disk_error("rename the unpacked kernel to", target, error));
  fs::create_directory(root, error);
  if (error) return fail(disk_error("create", root, error));
  return {};
}

Result<std::string> KernelCache::download(int cancel) const {
  // With the machine's own package lists, and if they are missing or out of date, with fresh ones.
  const auto attempt = [&](const std::vector<std::string>& cache,
                           const std::vector<std::string>& get) -> Result<ToolRun> {
    const ToolRun answer = VMM_TRY(run_tool(
        cache + std::vector<std::string>{"depends", kMetaPackage}, work(), kAptLimit, cancel));
    const auto package = answer.ok ? depended_kernel(answer.output) : std::nullopt;
    if (!package)
      return ToolRun{.output = {},
                     .death = fmt::format("apt knows no kernel that {} depends on ({})",
                                          kMetaPackage, answer.death),
                     .ok = false};
    log_info("fetching {} with apt", *package);
    return run_tool(get + std::vector<std::string>{"download", *package}, work(), kAptLimit,
                    cancel);
  };
  const std::vector<std::string> own_cache = private_apt("apt-cache", work());
  const std::vector<std::string> own_get = private_apt("apt-get", work());
  ToolRun run = VMM_TRY(attempt({"apt-cache"}, {"apt-get", "-o", "APT::Sandbox::User=root"}));
  if (!run.ok) {
    log_debug("{}; asking apt for fresh package lists", run.death);
    const ToolRun update =
        VMM_TRY(run_tool(own_get + std::vector<std::string>{"update"}, work(), kAptLimit, cancel));
    if (!update.ok)
      return fail(
          Error::no_lab(fmt::format("apt could not fetch its package lists: {}", update.death)));
    run = VMM_TRY(attempt(own_cache, own_get));
    // Without a network the update ends well all the same, and only its warnings tell.
    if (!run.ok) run.death += fmt::format("; before that, {}", update.death);
  }
  if (!run.ok)
    return fail(Error::no_lab(fmt::format("the lab's kernel could not be fetched: {}", run.death)));
  const auto name = only_entry(work(), "linux-image-");
  if (!name) return fail(Error::no_lab("apt-get download ended well, but left no package"));
  return fmt::format("{}/{}", work(), *name);
}

}  // namespace vmm
