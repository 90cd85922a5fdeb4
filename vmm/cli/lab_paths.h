// Which files a command names, for a lab that brings them in and out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/session.h"

namespace vmm {

// One input. An error of `kind` when it cannot be read, as the command itself would have it.
Result<std::vector<PathUse>> input_path(const std::string& path, ErrorKind kind = ErrorKind::Image);
void add_paths(std::vector<PathUse>& paths, const std::vector<PathUse>& more);
// The file of a --cpu-model that names one; nothing for the name of a built-in model.
Result<std::vector<PathUse>> model_paths(std::string_view selection);

}  // namespace vmm
