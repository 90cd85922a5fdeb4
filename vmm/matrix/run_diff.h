// What is different between two runs of a matrix: two hosts, two kernels, two commits.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "vmm/matrix/record.h"

namespace vmm {

struct RunDiff {
  // A cell of both runs, its verdict or its reason another.
  struct Cell {
    std::string id;
    CellVerdict before, after;
    std::string reason_before, reason_after;
    bool operator==(const Cell&) const = default;
  };
  // Something else about a cell of both: "guest digest", "model digest", "CPU model", "host".
  struct Value {
    std::string what;
    std::string before, after;
    std::vector<std::string> ids;  // of the cells with just this change
    bool operator==(const Value&) const = default;
  };

  std::vector<Cell> now_failing;  // a failure or INFRA, and was none
  std::vector<Cell> now_passing;  // was one
  std::vector<Cell> otherwise;    // another verdict all the same
  std::vector<Cell> reasons;      // the same verdict for another reason
  std::vector<Value> values;
  std::vector<std::string> only_before, only_after;  // ids
  // Of the headers; a pair whose halves differ is a difference.
  std::string matrix_before, matrix_after;  // digests
  std::string host_before, host_after;
  std::string vmm_before, vmm_after;
  std::size_t same = 0;  // cells of both runs with the same verdict and reason

  // Whether any cell has another verdict or is in one run only.
  bool any_verdict() const {
    return !(now_failing.empty() && now_passing.empty() && otherwise.empty() &&
             only_before.empty() && only_after.empty());
  }
};

// Cells are matched by their ids; only those that have a verdict count.
RunDiff diff_runs(const RunRecord& before, const RunRecord& after);
// For a terminal; ends in a newline. At most `max_cells` of each list.
std::string run_diff_text(const RunDiff& diff, std::size_t max_cells = 100);
nlohmann::json run_diff_json(const RunDiff& diff);

}  // namespace vmm
