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

// Why a guest reads 0 in bit `bit` of VMX capability MSR `msr`: "vmx-xsaves: @1 to @3 of
// skylake-client lack it, @4 has it", or that the host could not give it. Empty for a bit without a
// name, and where the model has it.
std::string why_capability_is_off(const ResolvedCpu& cpu, std::uint32_t msr, unsigned bit);

}  // namespace vmm
