// The argument of --cpu-model, taken apart: NAME[@VERSION][,+feat,-feat,feat=on|off,phys-bits=N]; a
// VMX control can also be written vmx.+ctl, vmx.-ctl, and be fixed to 1: vmx.ctl=fixed. What is to
// hold for one feature whatever --cpu-policy says: require:feat, optional:feat, forbid:feat; for
// the address width: phys-bits=host-exact, phys-bits=at-most-host.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/features.h"

namespace vmm {

struct CpuOverride {
  enum class Kind {
    Add,
    Remove,
    Fix,         // a VMX control becomes 1 for good
    Require,     // on, and a host that cannot give it is refused under every policy
    Optional,    // on where the host gives it, and off elsewhere, under every policy
    Forbid,      // off, and a host that gives it is refused
    PhysBits,    // the width
    PhysExact,   // a host of another width is refused
    PhysAtMost,  // no wider than the host
  };
  Kind kind = Kind::Add;
  FeatureId feature = 0;   // the first six
  unsigned phys_bits = 0;  // PhysBits: 32 to 52

  bool is_width() const { return kind >= Kind::PhysBits; }
  bool switches_on() const { return !is_width() && !switches_off(); }
  bool switches_off() const { return kind == Kind::Remove || kind == Kind::Forbid; }
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
