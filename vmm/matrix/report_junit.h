// A run as JUnit XML, as CI servers read it: a suite a guest, a test case a cell.
#pragma once

#include <string>

#include "vmm/matrix/record.h"

namespace vmm {

// SKIP and XFAIL are <skipped>; FAIL, TIMEOUT, CRASH and XPASS <failure>, their later attempts
// <rerunFailure>; INFRA and what did not run <error>; FLAKY passes with a <flakyFailure> for each
// attempt that failed, as Maven's surefire has it.
std::string junit_report(const RunRecord& run);

}  // namespace vmm
