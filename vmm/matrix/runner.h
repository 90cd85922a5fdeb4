// Runs cells of a matrix, several at a time: each a child process on this host or in a lab that is
// booted once, repeated where the matrix says so, its verdict written to the journal.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/expand.h"
#include "vmm/matrix/journal.h"
#include "vmm/matrix/record.h"
#include "vmm/matrix/spec.h"

namespace vmm {

struct RunnerOptions {
  std::string directory;   // of the run
  unsigned jobs = 1;       // cells and booting labs at a time
  unsigned repeat = 1;     // runs of each cell
  bool fail_fast = false;  // nothing new after the first failure
};

// What is going on, for whoever shows it.
struct RunnerProgress {
  std::size_t done = 0;
  std::size_t all = 0;
  std::map<CellVerdict, std::size_t> counts;
  std::vector<std::string> running;  // ids of cells, labs that boot
  double seconds = 0;                // since the start of this run
  double seconds_left = 0;           // by what cells took; 0: not known
};

struct RunnerReport {
  std::vector<CellRecord> cells;  // in the order in which they ended
  std::optional<int> signal;      // that stopped the run
  bool stopped_early = false;     // by fail_fast
};

// How many seconds each cell took last time, by id.
using CellTimes = std::map<std::string, double>;

// Runs those cells of `expansion` that `chosen` has by index. `numbers` gives each its number in
// the run's header, for the names of its files. `on_cell` is called for each that is finished,
// after it is in the journal; `on_progress` now and then. Errors of kind Internal: a journal that
// cannot be written, a process that cannot be started; then what runs is stopped and all that was
// finished stands in the journal.
Result<RunnerReport> run_cells(const MatrixSpec& spec, const Expansion& expansion,
                               const std::vector<std::size_t>& chosen,
                               const std::vector<std::size_t>& numbers,
                               const RunnerOptions& options, const CellTimes& times,
                               Journal& journal,
                               const std::function<void(const CellRecord&)>& on_cell,
                               const std::function<void(const RunnerProgress&)>& on_progress);

// "cells/0007-hello-1a2b3c4d", and ".2" behind it for the second attempt.
std::string attempt_directory(std::size_t number, const std::string& id, const std::string& guest,
                              std::size_t attempt);
// Of all attempts: the last one's, or Flaky where they disagree.
CellVerdict verdict_over(const std::vector<AttemptRecord>& attempts);

}  // namespace vmm
