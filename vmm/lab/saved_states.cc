#include "vmm/lab/saved_states.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "vmm/base/text.h"

namespace vmm {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kSuffix = ".state";
constexpr const char* kDraft = ".new";
// Two measurements on one machine differ by less, two machines by more.
constexpr std::uint32_t kSameRate = 5000;

// "DIGEST-KHZ.state"
std::optional<StateKey> key_of(std::string_view name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  const std::size_t dash = name.rfind('-');
  if (dash == name.npos) return std::nullopt;
  const auto khz = parse_number(name.substr(dash + 1));
  if (!khz || *khz > ~std::uint32_t{0}) return std::nullopt;
  return StateKey{std::string(name.substr(0, dash)), static_cast<std::uint32_t>(*khz)};
}

bool fits(const StateKey& saved, const StateKey& wanted) {
  const auto [low, high] = std::minmax(saved.tsc_khz, wanted.tsc_khz);
  return saved.digest == wanted.digest && high - low <= high / kSameRate;
}

// The states in `directory`, those used last first.
std::vector<std::string> states_in(const std::string& directory) {
  std::vector<std::pair<fs::file_time_type, std::string>> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code gone;
    if (!key_of(entry->path().filename().native())) continue;
    const auto used = entry->last_write_time(gone);
    if (!gone) found.emplace_back(used, entry->path().native());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> paths;
  for (auto& [used, path] : found) paths.push_back(std::move(path));
  return paths;
}

}  // namespace

StateDraft::StateDraft(StateDraft&& other) noexcept
    : draft_(std::exchange(other.draft_, {})),
      path_(std::move(other.path_)),
      file_(std::move(other.file_)) {}

StateDraft::~StateDraft() {
  if (!draft_.empty()) ::unlink(draft_.c_str());
}

Result<void> StateDraft::keep() {
  if (std::rename(draft_.c_str(), path_.c_str()) != 0)
    return fail(Error::system(ErrorKind::Lab, fmt::format("rename {}", printable(draft_)), errno));
  draft_.clear();
  file_.reset();
  return {};
}

std::vector<std::string> SavedStates::paths_of(const StateKey& key) const {
  std::vector<std::string> paths;
  for (std::string& path : states_in(directory_))
    if (fits(*key_of(fs::path(path).filename().native()), key)) paths.push_back(std::move(path));
  return paths;
}

std::optional<Fd> SavedStates::find(const StateKey& key) const {
  for (const std::string& path : paths_of(key)) {
    auto file = Fd::open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    struct stat status {};
    if (!file || ::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_uid != ::geteuid() || status.st_size == 0)
      continue;
    ::futimens(file->get(), nullptr);
    return *std::move(file);
  }
  return std::nullopt;
}

void SavedStates::forget(const StateKey& key) const {
  for (const std::string& path : paths_of(key)) ::unlink(path.c_str());
}

Result<std::optional<StateDraft>> SavedStates::begin(const StateKey& key) const {
  std::error_code error;
  fs::create_directories(directory_, error);
  if (error)
    return fail(Error::system(ErrorKind::Lab, fmt::format("create {}", printable(directory_)),
                              error.value()));
  const std::string draft = fmt::format("{}/{}", directory_, kDraft);
  Fd file =
      VMM_TRY(Fd::open(draft, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, ErrorKind::Lab, 0600));
  struct stat status {};
  struct stat named {};
  // Whoever held the lock may have renamed or removed the file since it was opened here.
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(file.get(), &status) != 0 ||
      ::lstat(draft.c_str(), &named) != 0 || status.st_ino != named.st_ino)
    return std::nullopt;
  StateDraft begun(draft, fmt::format("{}/{}-{}{}", directory_, key.digest, key.tsc_khz, kSuffix),
                   std::move(file));
  // What a process left there that was killed.
  if (::ftruncate(begun.file().get(), 0) != 0)
    return fail(Error::system(ErrorKind::Lab, fmt::format("truncate {}", printable(draft)), errno));
  remove_least_used();
  return begun;
}

// Room for one more.
void SavedStates::remove_least_used() const {
  const std::vector<std::string> paths = states_in(directory_);
  for (std::size_t i = kMost - 1; i < paths.size(); ++i) ::unlink(paths[i].c_str());
}

}  // namespace vmm
