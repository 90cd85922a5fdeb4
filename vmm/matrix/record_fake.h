// For tests: runs with something in every field.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "vmm/matrix/record.h"

namespace vmm {

inline CellRecord fake_cell(const std::string& guest, const std::string& model,
                            const std::string& on, CellVerdict verdict = CellVerdict::Pass,
                            const std::string& reason = "") {
  CellRecord cell;
  cell.id = fmt::format("{} cpu-model={} on={}", guest, model, on);
  cell.axes = {{"guest", guest}, {"cpu-model", model}, {"on", on}};
  cell.groups = {"smoke"};
  cell.verdict = verdict;
  cell.reason = reason;
  cell.expected = "pass";
  AttemptRecord attempt;
  attempt.verdict = verdict == CellVerdict::Flaky ? CellVerdict::Pass : verdict;
  attempt.reason = verdict == CellVerdict::Flaky ? "" : reason;
  attempt.kind = verdict == CellVerdict::Crash ? "triple-fault" : "guest-exit";
  attempt.exit_code = verdict == CellVerdict::Pass ? 0 : 1;
  attempt.seconds = 0.25;
  if (verdict == CellVerdict::Flaky) {
    AttemptRecord first = attempt;
    first.verdict = CellVerdict::Fail;
    first.reason = reason;
    first.exit_code = 1;
    cell.attempts.push_back(first);
  }
  cell.attempts.push_back(attempt);
  cell.cpu = {model + "@1", std::string(64, 'a'), std::string(64, 'b'), {}};
  cell.host = on == "host" ? "pvm 6.18.44" : on + " 6.1.0-32-cloud-amd64";
  cell.command = fmt::format("vmm run --cpu-model {} --on {} {}.elf", model, on, guest);
  cell.started = 1764266400.5;
  cell.seconds = 0.25;
  return cell;
}

inline RunRecord fake_run(std::vector<CellRecord> cells) {
  RunRecord run;
  run.header.matrix = "all";
  run.header.file = "guest-tests/all.toml";
  run.header.digest = std::string(64, 'd');
  for (const CellRecord& cell : cells) run.header.cells.push_back(cell.id);
  run.header.all_cells = cells.size();
  run.header.vmm = "0.1.0";
  run.header.host = "pvm, Linux 6.18.44";
  run.header.started = 1764266400;
  run.cells = std::move(cells);
  run.finished = 1764266460;
  return run;
}

}  // namespace vmm
