// What the page shows of the cells' files, within a budget.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "vmm/matrix/page_data.h"
#include "vmm/matrix/record.h"
#include "vmm/matrix/run_files.h"

namespace vmm {

// The attempt whose files tell the verdict: the last that did not pass, or the last.
const AttemptRecord& telling_attempt(const CellRecord& cell);

struct PageFiles {
  std::size_t cell;  // its index in the run
  // "directory"; where there is one and it has room, "card" (lines), "serial" and "report" ("text",
  // "size", "cut"), "screen" (base64) or else "screen_text" (lines); "left_out": "file" and "size"
  // of those without room.
  nlohmann::json json;
};

// The gravest verdicts first: card, end of the serial log, end of vmm's report and the screen of
// cells that did not plainly pass, and the screens that were kept of those that did.
std::vector<PageFiles> page_files(const RunRecord& run, const RunFiles& files, std::size_t budget,
                                  const PageLimits& limits);

}  // namespace vmm
