// Why a feature of a CPU is on or off: the versions of its model, the overrides, what it goes
// together with, and what the host says.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/selection.h"

namespace vmm {

struct WhyInput {
  FeatureId feature = 0;
  const WholeCpu* whole = nullptr;          // never null
  const CpuSelection* selection = nullptr;  // never null
  const CpuModelFile* file = nullptr;       // null for the rule `host`
  const CpuModel* model = nullptr;          // the version that is meant; null for the rule `host`
  std::optional<HostGrant> host;            // absent: not known, so not spoken of
  std::string where;                        // "this host (pvm, Linux 6.18)"
};

// Two to four lines: the bit and how it is, where that comes from, what is wrong with it if
// anything is, and what the host makes of it if it is wanted.
Result<std::vector<std::string>> why_lines(const WhyInput& input);

}  // namespace vmm
