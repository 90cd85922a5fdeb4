// The CPU that several hosts can all give: for a test that has to mean the same on each of them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

struct BaselineHost {
  std::string name;  // of its dump's file
  HostGrant grant;
};

// A feature that some of the hosts give and that the baseline has not.
struct BaselineGap {
  FeatureId feature = 0;
  // The hosts that lack it. None: they all grant it, but what it needs is missing on one of them.
  std::vector<std::string> lacking;
};

struct Baseline {
  // "baseline@1". Features are the named bits that every host grants and that stand together (what
  // they need is there too); the narrowest physical addresses, the lowest leaf limits; the caches
  // if all hosts have the same; family, model and stepping of the host where they are lowest.
  CpuModel model;
  std::vector<BaselineGap> gaps;
  std::vector<std::string> given;  // "skylake-server@5": what all hosts give under strict
};

// Usage errors for no host at all and for hosts of different vendors. Every host gives the whole
// model under strict. KVM's own leaves are left out, nesting is in `svm` and `vmx`.
Result<Baseline> find_baseline(std::span<const BaselineHost> hosts);

// The model as a file, with a comment that says which hosts it was made of.
std::string baseline_text(const Baseline& baseline, std::span<const BaselineHost> hosts);

}  // namespace vmm
