// Where runs of matrices leave their files: vmm-matrix/NAME/TIME, with `latest` beside them.
#pragma once

#include <string>

#include "vmm/base/result.h"
#include "vmm/matrix/runner.h"

namespace vmm {

inline constexpr const char* kRunsFolder = "vmm-matrix";

// Makes the folder of a new run: `wanted`, which must not hold a run yet, or one after the time
// now, to which `latest` points then.
Result<std::string> make_run_directory(const std::string& matrix_name, const std::string& wanted);
// The newest run of a matrix here; a Usage error where there is none.
Result<std::string> latest_run(const std::string& matrix_name);
// What cells took in the newest run of that matrix; empty where there is none or it cannot be read.
CellTimes known_times(const std::string& matrix_name);

}  // namespace vmm
