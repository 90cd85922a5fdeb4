#include "vmm/matrix/page_files.h"

#include <algorithm>
#include <optional>
#include <string>

#include "vmm/matrix/base64.h"
#include "vmm/matrix/summary.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kMinLog = 1 << 10;
constexpr std::size_t kPerCell = 160;  // "directory", "left_out" and what is around them

// Hands out what is left of the budget, file by file.
class Collector {
 public:
  Collector(const RunFiles& files, std::size_t budget, std::size_t log, const PageLimits& limits)
      : files_(files), left_(budget), log_(log), limits_(limits) {}

  std::optional<json> collect(const CellRecord& cell) {
    const AttemptRecord& attempt = telling_attempt(cell);
    if (attempt.directory.empty()) return std::nullopt;
    const std::string directory = attempt.directory + "/";
    result_ = json::object();
    OutcomeText outcome;
    if (cell.verdict != CellVerdict::Pass) {
      outcome = files_.outcome(directory + "outcome.json");
      if (!outcome.card.empty()) add("card", outcome.card);
      add_log("serial", directory, "serial.log", log_);
      add_log("report", directory, "report.txt", log_ / 2);
    }
    if (const auto image = files_.png(directory + "screen.png", limits_.screen)) {
      if (image->bytes.empty())
        leave_out("screen.png", image->size);
      else
        add("screen", base64(image->bytes), "screen.png", image->size);
    } else if (!outcome.screen.empty()) {
      add("screen_text", outcome.screen);
    }
    if (result_.empty()) return std::nullopt;
    result_["directory"] = attempt.directory;
    take(kPerCell);
    return std::move(result_);
  }

 private:
  void add_log(const char* key, const std::string& directory, const char* name, std::size_t max) {
    const auto tail = files_.tail(directory + name, max);
    if (!tail) return;
    add(key, {{"text", tail->text}, {"size", tail->size}, {"cut", tail->cut}}, name, tail->size);
  }

  // Of what is no file of its own nothing is said when it has no room.
  void add(const char* key, json value, const char* name = nullptr, std::uint64_t file_size = 0) {
    const std::size_t size = embedded_json(value).size();
    if (size > left_) {
      if (name != nullptr) leave_out(name, file_size);
      return;
    }
    take(size);
    result_[key] = std::move(value);
  }

  void leave_out(const char* name, std::uint64_t size) {
    result_["left_out"].push_back({{"file", name}, {"size", size}});
  }

  void take(std::size_t size) { left_ -= std::min(left_, size); }

  const RunFiles& files_;
  std::size_t left_;
  const std::size_t log_;
  const PageLimits& limits_;
  json result_;
};

}  // namespace

const AttemptRecord& telling_attempt(const CellRecord& cell) {
  const auto failed = std::find_if(
      cell.attempts.rbegin(), cell.attempts.rend(),
      [](const AttemptRecord& attempt) { return attempt.verdict != CellVerdict::Pass; });
  return failed != cell.attempts.rend() ? *failed : cell.last();
}

std::vector<PageFiles> page_files(const RunRecord& run, const RunFiles& files, std::size_t budget,
                                  const PageLimits& limits) {
  std::vector<PageFiles> result;
  // Rather a little of each log than all of some.
  const std::size_t not_passed = run.cells.size() - run.count(CellVerdict::Pass);
  const std::size_t share = budget / 2 / std::max<std::size_t>(not_passed, 1);
  Collector collector(files, budget, std::clamp(share, std::min(kMinLog, limits.log), limits.log),
                      limits);
  for (const CellVerdict verdict : kGravestFirst)
    for (std::size_t i = 0; i < run.cells.size(); ++i)
      if (run.cells[i].verdict == verdict)
        if (auto shown = collector.collect(run.cells[i])) result.push_back({i, std::move(*shown)});
  return result;
}

}  // namespace vmm
