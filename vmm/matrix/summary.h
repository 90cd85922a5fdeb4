// A run in a few lines, for the end of a command.
#pragma once

#include <array>
#include <string>

#include "vmm/matrix/record.h"

namespace vmm {

// "412 cells: 400 PASS, 3 XFAIL, 9 not run"; words without cells are left out.
std::string counts_line(const RunRecord& run);
// What did not pass, each with its reason, the gravest first, SKIPs together by reason; then the
// counts. Safe for a terminal, ends in a newline; at most `max_cells` cells are listed.
std::string run_summary(const RunRecord& run, std::size_t max_cells = 100);
// What `vmm matrix run` ends with (docs/matrix.md): 0, 1, 75 or 77. A cell that did not run counts
// for nothing: who stopped the run knows its code.
int run_exit_code(const RunRecord& run, bool fail_on_flaky);

// "0.3 s", "12 s", "3 min 20 s", "2 h 5 min".
std::string duration_text(double seconds);
// "2026-11-27 18:00:00 UTC"; empty for 0.
std::string date_text(double seconds);

// The gravest first, then what is no failure: FAIL, CRASH, TIMEOUT, XPASS, INFRA, FLAKY, XFAIL,
// SKIP, PASS.
inline constexpr std::array kGravestFirst = {
    CellVerdict::Fail,  CellVerdict::Crash, CellVerdict::Timeout,
    CellVerdict::XPass, CellVerdict::Infra, CellVerdict::Flaky,
    CellVerdict::XFail, CellVerdict::Skip,  CellVerdict::Pass};

}  // namespace vmm
