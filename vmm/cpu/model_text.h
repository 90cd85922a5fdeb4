// A CPU model as the text of a model file, the other way round from parse_cpu_model().
#pragma once

#include <string>
#include <string_view>

#include "vmm/cpu/cpu_model.h"

namespace vmm {

// A file of one version that parse_cpu_model() reads as `model`. `comment` stands at its top, every
// line of it behind a '#'.
std::string cpu_model_text(const CpuModel& model, std::string_view comment);

}  // namespace vmm
