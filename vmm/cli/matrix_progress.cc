#include "vmm/cli/matrix_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/matrix/summary.h"

namespace vmm {

std::string cell_line(const CellRecord& cell) {
  std::string line = fmt::format("{:<7}  {}  {}", verdict_word(cell.verdict),
                                 printable(cell.id, 1000), duration_text(cell.seconds));
  // The summary at the end has the whole of it.
  if (!cell.reason.empty()) line += "  " + printable(cell.reason, 100);
  return line;
}

std::string progress_line(const RunnerProgress& progress, std::size_t columns) {
  const std::string all = fmt::format("{}", progress.all);
  std::string line = fmt::format("[{:>{}}/{}]", progress.done, all.size(), all);
  for (const auto& [verdict, count] : progress.counts)
    line += fmt::format(" {} {}", count, verdict_word(verdict));
  const std::string left = progress.seconds_left > 0
                               ? fmt::format(" | {} left", duration_text(progress.seconds_left))
                               : "";
  std::string running;
  for (const std::string& id : progress.running)
    running += (running.empty() ? "" : ", ") + printable(id);
  // What runs gives way first: the counts and the time are what one looks for.
  const std::size_t taken = line.size() + left.size() + 3;
  if (!running.empty() && taken + 8 < columns) {
    if (taken + running.size() > columns) running = running.substr(0, columns - taken - 3) + "...";
    line += " | " + running;
  }
  line += left;
  return line.substr(0, columns);
}

ProgressDisplay::ProgressDisplay(bool verbose)
    : verbose_(verbose), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressDisplay::~ProgressDisplay() { clear(); }

void ProgressDisplay::cell(const CellRecord& cell) {
  if (cell.verdict == CellVerdict::Pass && !verbose_) return;
  clear();
  fmt::print("{}\n", cell_line(cell));
  std::fflush(stdout);
}

void ProgressDisplay::progress(const RunnerProgress& progress) {
  if (!terminal_) return;
  const auto size = terminal_size(STDERR_FILENO);
  const std::size_t columns = size && size->columns > 20 ? size->columns - 1u : 79;
  fmt::print(stderr, "\r{}\x1b[K", progress_line(progress, columns));
  std::fflush(stderr);
  shown_ = true;
}

void ProgressDisplay::clear() {
  if (!shown_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace vmm
