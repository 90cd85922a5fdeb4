// Where the text of a model comes from: a built-in model may not inherit from another.
#pragma once

#include <string_view>

#include "vmm/cpu/cpu_model.h"

namespace vmm {

enum class ModelOrigin { BuiltIn, File };

Result<CpuModelFile> parse_cpu_model(std::string_view text, std::string_view file,
                                     ModelOrigin origin);

}  // namespace vmm
