// The guest hypervisors of a scene: in which level each vCPU is, what its VMCS says, and which
// rules of VM entry it breaks.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/nested_position.h"
#include "vmm/core/page_walk.h"
#include "vmm/machine/explain.h"
#include "vmm/nested/nested_state.h"
#include "vmm/nested/rule.h"
#include "vmm/nested/vmx_denied.h"

namespace vmm {

// How a hypervisor's EPT or nested page tables translate an address of L2's memory.
struct NestedWalk {
  struct Step {
    std::string entry;  // "EPT PML4E", "PDPTE", ...
    unsigned index = 0;
    Gpa at = 0;
    std::uint64_t value = 0;
  };
  Gpa address = 0;
  std::vector<Step> steps = {};
  std::optional<Gpa> gpa = {};  // of the hypervisor's memory, when the walk succeeded
  std::uint64_t page_size = 0;
  bool writable = false, executable = false;  // by all entries together
  std::string failure = {};                   // a sentence; empty where there is none
};

// Where a linear address of L2 leads: through its own tables, which lie in its memory, and what
// comes out through the hypervisor's, if it has such.
struct L2Walk {
  std::string of;  // "rip", "cr2"
  Gva address = 0;
  Walk walk = {};
  std::optional<NestedWalk> nested = {};
};

struct NestedFinding {
  unsigned vcpu = 0;
  nested::NestedState state;
  // Of the current VMCS, where there is one and the vCPU is not in L2 (it has been entered with
  // then); of a VMCB that VMRUN refused.
  nested::CheckReport report = {};
  // The last entry failed, or the next one will, in words: "VM-instruction error 8 (...)". Empty:
  // none is known to. Where it is not, a rule is broken.
  std::string failure = {};
  // What failed: "VM entry failed on vCPU 0", "VMRUN refused the VMCB at 10A000h", "VMLAUNCH on
  // vCPU 0 would fail".
  std::string what = {};
  // What was looked at, and its name: KVM's nested state, or a VMCB.
  std::vector<std::uint8_t> bytes = {};
  std::string bytes_name = {};
  // What L2, as its VMCS stands, cannot execute although CPUID offers it.
  std::vector<nested::DeniedInstruction> denied = {};
  // What KVM has counted of the vCPU.
  std::map<std::string, std::uint64_t> counters = {};
  // Of a vCPU in L2.
  std::vector<L2Walk> walks = {};
  bool l2_lacks_instructions() const { return state.guest_mode && !denied.empty(); }
  // The lines of a card: level and regions, what failed, the rules that are broken.
  std::vector<std::string> lines = {};
};

// Those of vCPUs that are, or were, in VMX operation; what cannot be read is left out. Where the
// run ended before a VM entry (ending::Caught) that vCPU's is entry_ahead().
std::vector<NestedFinding> nested_findings(const CrashScene& scene);

// What the vCPU is about to execute.
struct EntryAhead {
  std::string_view instruction;   // "VMLAUNCH", "VMRESUME", "VMRUN"
  Gva address = 0;                // of the instruction, linear
  std::optional<Gpa> block = {};  // the current VMCS, or the VMCB in RAX
  std::uint64_t l2_rip = 0;       // as that says
  NestedFinding finding = {};
};

// Of a vCPU in L1 that stands at VMLAUNCH, VMRESUME or VMRUN: what that will find. Nothing
// elsewhere.
std::optional<EntryAhead> entry_ahead(const CrashScene& scene, unsigned vcpu);

// The VM exit that brought the vCPU back to L1, where it has not gone on since.
struct ExitBehind {
  std::uint64_t code = 0;  // the exit reason of a VMCS, EXITCODE of a VMCB
  std::uint64_t l2_rip = 0;
  std::string text;  // "30 (port I/O), OUT to port 3F8h"
};
// Of the current VMCS, or the VMCB whose address RAX has.
std::optional<ExitBehind> exit_behind(const CrashScene& scene, unsigned vcpu);

// In which level the vCPU is, and where it may land when it crosses to another.
NestedPosition nested_position(const CrashScene& scene, unsigned vcpu);
// L2's memory as the hypervisor's nested tables map it, where the vCPU is in L2 with such; null
// elsewhere. Refers to `scene`.
std::shared_ptr<const NestedMemory> l2_memory(const CrashScene& scene, unsigned vcpu);
// Of an address of L2's memory; nothing where that is L1's own.
std::optional<NestedWalk> walk_nested(const CrashScene& scene, unsigned vcpu, Gpa l2_address,
                                      bool fetch);
// Where RIP leads, and CR2 if there is one; none of a vCPU in L1.
std::vector<L2Walk> l2_walks(const CrashScene& scene, unsigned vcpu);
// Who keeps the capability away that would allow it; empty where that is not known.
std::string capability_origin(const CrashScene& scene, const nested::Violation& violation);
// `violation`, and that.
std::string violation_text(const CrashScene& scene, const nested::Violation& violation);
// The instruction, and who keeps its control away.
std::string denied_text(const CrashScene& scene, const nested::DeniedInstruction& denied);

}  // namespace vmm
