// A CPU model as the text of a model file, the other way round from parse_cpu_model().
#pragma once

#include <string>
#include <string_view>

#include "vmm/cpu/cpu_model.h"

namespace vmm {

// A file of one version that parse_cpu_model() reads as `model`. `comment` stands at its top, every
// line of it behind a '#'.
std::string cpu_model_text(const CpuModel& model, std::string_view comment);

// The same as a model that inherits from `base`, a version of a built-in model, and says only what
// is different.
std::string cpu_model_text(const CpuModel& model, const CpuModel& base, std::string_view comment);

// The lines of a [[version]] that make `model` of `base`, vendor, name and title aside. Empty where
// they are the same.
std::string cpu_model_changes(const CpuModel& model, const CpuModel& base);

}  // namespace vmm
