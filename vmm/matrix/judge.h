// The verdict on one run of a cell's guest: out of what the outcome of the run says, what came on
// the console, and what the matrix expects. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/console_watch.h"
#include "vmm/matrix/record.h"
#include "vmm/matrix/spec.h"

namespace vmm {

// What is read of an outcome document (docs/outcome.md).
struct CellOutcome {
  std::string kind;
  std::string headline;
  std::string layer;
  int exit_code = 0;
  std::string rule;
  std::string cause;  // in one sentence; may be empty
  CellCpu cpu;
  std::string screen;  // the lines of the final text screen
  std::string host;    // "svm 6.1.0-32-cloud-amd64"
};
// An Internal error for what is no outcome; strings are cut at 4 KiB, lists at 1000 items.
Result<CellOutcome> parse_cell_outcome(std::string_view document);

// How one run went.
struct AttemptFacts {
  std::optional<CellOutcome> outcome;  // nothing where vmm left none
  int exit_code = 0;                   // of the process, 128 + n when signal n ended it
  std::string last_lines;              // of its standard error
  std::string phase;                   // of a limit that the runner saw pass; empty: none
  LinesSeen console;
  LinesSeen screen;  // of the final VGA text, for `screen` and `forbid`
  SubResults results;
  std::string fault;  // of the runner's own: "the lab did not start: ..."; empty: none
};

struct Judgement {
  CellVerdict verdict = CellVerdict::Infra;
  std::string reason;  // one line; empty for a plain pass
};
// Never Flaky: that takes more than one run.
Judgement judge(const Settings& settings, const AttemptFacts& facts);

}  // namespace vmm
