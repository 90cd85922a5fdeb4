// The guest hypervisors of a scene: in which level each vCPU is, what its VMCS says, and which
// rules of VM entry it breaks.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/nested_position.h"
#include "vmm/machine/explain.h"
#include "vmm/nested/nested_state.h"
#include "vmm/nested/rule.h"

namespace vmm {

struct NestedFinding {
  unsigned vcpu = 0;
  nested::NestedState state;
  // Of the current VMCS, where there is one and the vCPU is not in L2 (it has been entered with
  // then); of a VMCB that VMRUN refused.
  nested::CheckReport report = {};
  // The last entry failed, in words: "VM-instruction error 8 (...)". Empty: none is known to have.
  std::string failure = {};
  // What failed: "VM entry failed on vCPU 0", "VMRUN refused the VMCB at 10A000h".
  std::string what = {};
  // The lines of a card: level and regions, what failed, the rules that are broken.
  std::vector<std::string> lines = {};
};

// Those of vCPUs that are, or were, in VMX operation; what cannot be read is left out.
std::vector<NestedFinding> nested_findings(const CrashScene& scene);

// In which level the vCPU is, and where it may land when it crosses to another.
NestedPosition nested_position(const CrashScene& scene, unsigned vcpu);
// L2's memory as the hypervisor's nested tables map it, where the vCPU is in L2 with such; null
// elsewhere. Refers to `scene`.
std::shared_ptr<const NestedMemory> l2_memory(const CrashScene& scene, unsigned vcpu);
// Who keeps the capability away that would allow it; empty where that is not known.
std::string capability_origin(const CrashScene& scene, const nested::Violation& violation);
// `violation`, and that.
std::string violation_text(const CrashScene& scene, const nested::Violation& violation);

}  // namespace vmm
