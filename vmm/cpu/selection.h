// The argument of --cpu-model, taken apart: NAME[@VERSION][,+feat,-feat,feat=on|off,phys-bits=N]; a
// VMX control can also be written vmx.+ctl, vmx.-ctl, and be fixed to 1: vmx.ctl=fixed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/features.h"

namespace vmm {

struct CpuOverride {
  enum class Kind { Add, Remove, Fix, PhysBits };
  Kind kind = Kind::Add;
  FeatureId feature = 0;   // Add, Remove; Fix: a VMX control
  unsigned phys_bits = 0;  // PhysBits: 32 to 52

  std::string text() const;  // "+pdpe1gb", "phys-bits=39"
};

struct CpuSelection {
  std::string model;                   // as the user wrote it: "Haswell@4", "host", "./my.toml"
  std::vector<CpuOverride> overrides;  // in order; of two that disagree the last one holds
};

// Whether the selection is of the rule `host`, which only a host can say anything about.
bool is_rule_host(const CpuSelection& selection);

// Usage errors for unknown features (with the nearest name), bits that are not the user's to set,
// bad numbers, and more than 256 overrides. Does not look whether the model exists.
Result<CpuSelection> parse_cpu_selection(std::string_view text);

}  // namespace vmm
