// Two CPUs side by side, by name: what one has and the other lacks.
#pragma once

#include <string>
#include <vector>

#include "vmm/cpu/features.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

struct CpuDiff {
  // Identity, brand, widths, leaf limits, caches, MSRs, registers without names, wishes, KVM's
  // quirks: what is no single bit.
  struct Value {
    std::string what;  // "brand"
    std::string left, right;
    bool operator==(const Value&) const = default;
  };
  std::vector<Value> values;
  // Bits of named words, in their order, with a name or without.
  std::vector<FeaturePlace> left_only;
  std::vector<FeaturePlace> right_only;

  bool empty() const { return values.empty() && left_only.empty() && right_only.empty(); }
};

// Words that follow from features (leaf Dh, AMD's copies of 1.EDX) are left out, and so is the bit
// that only one of the two was given to be looked at with.
CpuDiff diff_cpus(const WholeCpu& left, const WholeCpu& right);

// "-  7.0.EBX  hle rtm" and "+  ..." a word, values before them; at most 100 columns, but for long
// values.
std::vector<std::string> diff_lines(const CpuDiff& diff);

}  // namespace vmm
