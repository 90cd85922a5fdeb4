// Which of the differences between two CPUs matter: delta debugging (Zeller and Hildebrandt,
// "Simplifying and Isolating Failure-Inducing Input", 2002) over the names of features. Pure: who
// runs a guest is the caller.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_model.h"

namespace vmm {

// A CPU to bisect: a whole model, and whether its guest may virtualize (+vmx, +svm).
struct BisectCpu {
  CpuModel model;
  bool nested = false;
  bool operator==(const BisectCpu&) const = default;
};

// One difference: what the bad CPU has in place of what the good one has.
struct CpuDelta {
  enum class Kind {
    Add,      // a feature
    Remove,   // a feature
    Fix,      // a VMX control becomes fixed to 1
    Unfix,    // or is no longer
    Nesting,  // +vmx, +svm, or its absence
    Vendor,
    Brand,
    Family,
    Model,
    Stepping,
    MaxLeaf,
    MaxExtLeaf,
    PhysBits,
    Caches,
    Words,   // those without a name
    Msrs,    // [msr]
    Quirks,  // of KVM
  };
  Kind kind = Kind::Add;
  FeatureId feature = 0;  // the first four
  std::string text;       // "+pdpe1gb", "phys-bits=46", "vmx-hlt-exit=fixed"
  bool operator==(const CpuDelta&) const = default;
};

// Every difference, in the order of the catalog. Nested capabilities count only where at least one
// of the two is nested.
std::vector<CpuDelta> deltas_between(const BisectCpu& good, const BisectCpu& bad);

// `good` with the deltas at `chosen`, which point into `deltas`, taken from `bad`.
BisectCpu with_deltas(const BisectCpu& good, const BisectCpu& bad,
                      const std::vector<CpuDelta>& deltas, const std::vector<std::size_t>& chosen);

// Whether each feature of `cpu` has what it needs. A need that `good` or `bad` goes without is
// none.
bool stands(const BisectCpu& cpu, const BisectCpu& good, const BisectCpu& bad);

enum class BisectVerdict { Good, Bad, Unresolved };

struct BisectResult {
  std::vector<std::size_t>
      smallest;                // rising; turns good into bad, and without any one it does not
  std::size_t asked = 0;       // sets that were tried, each once
  std::size_t unresolved = 0;  // of those
  bool finished = true;        // false: `max_asked` was reached, and it may be smaller
};

// `ask` says how the good CPU with those of `count` deltas does; all of them are Bad, and none of
// them Good, which is not asked again. An error of `ask` ends it.
using BisectAsk = std::function<Result<BisectVerdict>(const std::vector<std::size_t>&)>;
Result<BisectResult> bisect(std::size_t count, const BisectAsk& ask, std::size_t max_asked);

}  // namespace vmm
