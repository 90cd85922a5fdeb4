// The reports of a run, as files in its folder.
#pragma once

#include <string>

#include "vmm/base/result.h"
#include "vmm/matrix/record.h"

namespace vmm {

// report.html, results.json, junit.xml and results.tap; each takes the place of an older one at
// once. Errors name the file.
Result<void> write_reports(const RunRecord& run, const std::string& directory);

}  // namespace vmm
