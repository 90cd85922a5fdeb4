// A run as TAP 14: a test point a cell, with a subtest where the guest told of tests of its own.
#pragma once

#include <string>

#include "vmm/matrix/record.h"

namespace vmm {

// XFAIL is "not ok # TODO", SKIP "ok # SKIP"; XPASS, INFRA and what did not run are "not ok",
// FLAKY is "ok". What is no plain pass has a YAML block with the verdict.
std::string tap_report(const RunRecord& run);

}  // namespace vmm
