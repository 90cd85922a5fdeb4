// One run out of its shards.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/record.h"

namespace vmm {

struct MergedRun {
  RunRecord run;
  // Shards that were not there ("2/3"), and how many cells of the matrix no run had chosen.
  std::vector<std::string> missing_shards;
  std::uint64_t cells_in_no_shard = 0;
  // Cells that a shard had chosen and none has a verdict on.
  std::vector<std::string> not_run;

  // Sentences on what is missing, a line each; empty when nothing is.
  std::string text() const;
};

// `names` are those of the runs' directories, for messages. Usage errors: no run, matrices with
// other digests, a cell with two verdicts. An attempt's directory gets the number of its run before
// it ("1/cells/0004/1"): whoever merges puts, or links, the runs there.
Result<MergedRun> merge_runs(const std::vector<RunRecord>& runs,
                             const std::vector<std::string>& names);

}  // namespace vmm
