// What `vmm matrix run` shows while it runs: a line for each finished cell on stdout, and on a
// terminal one line on stderr that says what is going on.
#pragma once

#include <string>

#include "vmm/matrix/record.h"
#include "vmm/matrix/runner.h"

namespace vmm {

// "FAIL     hello smp=2  0.4 s  exit code 3": safe for a terminal, without an end.
std::string cell_line(const CellRecord& cell);
// "[ 37/412] 35 PASS 1 FAIL 1 SKIP | hello smp=2, ... | 1 min 20 s left", at most `columns` wide.
std::string progress_line(const RunnerProgress& progress, std::size_t columns);

class ProgressDisplay {
 public:
  // `verbose`: plain passes get a line as well.
  explicit ProgressDisplay(bool verbose);
  ~ProgressDisplay();
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void cell(const CellRecord& cell);
  void progress(const RunnerProgress& progress);
  // Takes the line away, so that something else can be printed.
  void clear();

 private:
  bool verbose_;
  bool terminal_;
  bool shown_ = false;
};

}  // namespace vmm
