#include "vmm/matrix/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <vector>

#include "vmm/matrix/clean_text.h"

namespace vmm {
namespace {

std::string line_of(CellVerdict verdict, std::string_view what, std::string_view reason) {
  std::string line = fmt::format("{:<8} {}\n", verdict_word(verdict), clean_line(what, 300));
  if (!reason.empty()) line += fmt::format("         {}\n", clean_line(reason, 300));
  return line;
}

// Hosts refuse many cells for one reason: a line each reason.
std::string skips_of(const RunRecord& run) {
  std::vector<std::pair<std::string, std::vector<const CellRecord*>>> reasons;
  std::map<std::string, std::size_t> places;
  for (const CellRecord& cell : run.cells) {
    if (cell.verdict != CellVerdict::Skip) continue;
    const auto [place, is_new] = places.emplace(cell.reason, reasons.size());
    if (is_new) reasons.push_back({cell.reason, {}});
    reasons[place->second].second.push_back(&cell);
  }
  std::string text;
  for (const auto& [reason, cells] : reasons)
    text +=
        line_of(CellVerdict::Skip,
                cells.size() == 1 ? cells[0]->id : fmt::format("{} cells", cells.size()), reason);
  return text;
}

}  // namespace

std::string counts_line(const RunRecord& run) {
  std::string parts;
  const auto add = [&](std::size_t count, std::string_view what) {
    if (count != 0) parts += fmt::format("{}{} {}", parts.empty() ? ": " : ", ", count, what);
  };
  for (const CellVerdict verdict : kVerdicts) add(run.count(verdict), verdict_word(verdict));
  const std::size_t all = std::max(run.header.cells.size(), run.cells.size());
  add(all - run.cells.size(), "not run");
  return fmt::format("{} cell{}{}", all, all == 1 ? "" : "s", parts);
}

std::string run_summary(const RunRecord& run, std::size_t max_cells) {
  std::string text;
  std::size_t listed = 0;
  std::size_t left_out = 0;
  for (const CellVerdict verdict : kGravestFirst) {
    if (verdict == CellVerdict::Pass || verdict == CellVerdict::XFail) continue;
    if (verdict == CellVerdict::Skip) {
      text += skips_of(run);
      continue;
    }
    for (const CellRecord& cell : run.cells) {
      if (cell.verdict != verdict) continue;
      if (listed++ < max_cells)
        text += line_of(verdict, cell.id, cell.reason);
      else
        ++left_out;
    }
  }
  if (left_out != 0) text += fmt::format("and {} more that did not pass\n", left_out);
  std::string took;
  if (run.finished > run.header.started)
    took = fmt::format(", {}", duration_text(run.finished - run.header.started));
  return text + counts_line(run) + took + "\n";
}

int run_exit_code(const RunRecord& run, bool fail_on_flaky) {
  const bool failed = std::any_of(run.cells.begin(), run.cells.end(), [&](const CellRecord& cell) {
    return is_failure(cell.verdict) || (fail_on_flaky && cell.verdict == CellVerdict::Flaky);
  });
  if (failed) return 1;
  if (run.count(CellVerdict::Infra) != 0) return 75;
  if (!run.cells.empty() && run.count(CellVerdict::Skip) == run.cells.size()) return 77;
  return 0;
}

std::string duration_text(double seconds) {
  if (seconds < 9.95) return fmt::format("{:.1f} s", std::max(seconds, 0.0));
  const auto whole = static_cast<std::uint64_t>(std::min(seconds, 1e12) + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

std::string date_text(double seconds) {
  if (!(seconds > 0)) return {};
  const auto time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  if (::gmtime_r(&time, &parts) == nullptr) return {};
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

}  // namespace vmm
