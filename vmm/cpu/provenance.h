// Where the bits of a CPU come from: which version of which model, an override, nobody's choice.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/selection.h"

namespace vmm {

// A CPU, and what it was made of.
struct CpuSource {
  const ResolvedCpu* cpu = nullptr;         // never null
  const CpuSelection* selection = nullptr;  // never null
  const CpuModelFile* file = nullptr;       // null for the rule `host`
  const CpuModel* model = nullptr;          // the version that is meant; null for the rule `host`
};

// What decides about a bit that is nobody's choice, in words; nothing for others.
std::optional<std::string_view> fixed_origin(std::string_view feature);

// "mine@1 forbid.leaks" where a section of the model file speaks of the feature.
std::optional<std::string> wish_of_model(const CpuModel& model, FeatureId id);

bool model_has(const CpuModel& model, FeatureId id);

// The override that decides: the last that names the feature or, where the model has it, takes away
// what it needs. Null where none does.
const CpuOverride* deciding_override(FeatureId id, const CpuSelection& selection, bool in_model);

// "haswell@3" for the version that brought a bit in, "+pdpe1gb", "always", "--smp": of a bit that
// is on; of one that is off, the override that took it, or nothing where it never was.
std::string origin_of_bit(FeatureId id, const CpuSource& source);

// Every bit that is on, by word and origin, and those that overrides took away; at most 100
// columns. Bits that are in `missing` are marked, as ones that a host does not give.
std::vector<std::string> provenance_lines(const CpuSource& source,
                                          const std::vector<MissingBit>& missing);

}  // namespace vmm
