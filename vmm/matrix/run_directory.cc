#include "vmm/matrix/run_directory.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <filesystem>

#include "vmm/matrix/journal.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;

Result<void> make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error)
    return fail(Error::usage(
                    fmt::format("the folder {} cannot be made: {}", path.string(), error.message()))
                    .hint("--out DIR names another"));
  return {};
}

}  // namespace

Result<std::string> make_run_directory(const std::string& matrix_name, const std::string& wanted) {
  if (!wanted.empty()) {
    VMM_TRY(make_folder(wanted));
    std::error_code error;
    if (fs::exists(fs::path(wanted) / kJournalName, error))
      return fail(Error::usage(fmt::format("--out {}: there is a run already", wanted))
                      .hint("--resume goes on with it; another folder keeps both"));
    return wanted;
  }
  const fs::path runs = fs::path(kRunsFolder) / matrix_name;
  VMM_TRY(make_folder(runs));
  const std::time_t now = std::time(nullptr);
  const std::string base = fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(now));
  // Two runs within a second are told apart by a number.
  for (int number = 1; number < 1000; ++number) {
    const std::string name = number == 1 ? base : fmt::format("{}-{}", base, number);
    std::error_code error;
    if (!fs::create_directory(runs / name, error)) {
      if (error)
        return fail(Error::usage(fmt::format("the folder {} cannot be made: {}",
                                             (runs / name).string(), error.message())));
      continue;
    }
    // A link that is made beside and moved is there at every moment.
    const fs::path link = runs / fmt::format(".latest-{}", ::getpid());
    fs::remove(link, error);
    fs::create_directory_symlink(name, link, error);
    fs::rename(link, runs / "latest", error);
    return (runs / name).string();
  }
  return fail(Error::usage(fmt::format("{} has a thousand runs of this second", runs.string())));
}

Result<std::string> latest_run(const std::string& matrix_name) {
  const fs::path link = fs::path(kRunsFolder) / matrix_name / "latest";
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  if (error || target.has_parent_path())
    return fail(
        Error::usage(fmt::format("there is no run of the matrix '{}' in {}", matrix_name,
                                 (fs::path(kRunsFolder) / matrix_name).string()))
            .hint(
                "vmm matrix run makes one; one that was made by --out DIR needs that option here"));
  return (fs::path(kRunsFolder) / matrix_name / target).string();
}

CellTimes known_times(const std::string& matrix_name) {
  CellTimes times;
  const auto directory = latest_run(matrix_name);
  if (!directory) return times;
  const auto run = read_journal(*directory);
  if (!run) return times;
  for (const CellRecord& cell : run->cells) times[cell.id] = cell.seconds;
  return times;
}

}  // namespace vmm
