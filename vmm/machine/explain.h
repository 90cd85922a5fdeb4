// Why a guest died, in at most 25 lines. Works on values only, so that the same rules read a live
// machine and a dump that somebody pasted.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/cpu_state.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/outcome.h"
#include "vmm/core/page_walk.h"
#include "vmm/core/symbols.h"
#include "vmm/core/trace.h"

namespace vmm {

// What KVM holds of a guest hypervisor on one vCPU.
struct HypervisorState {
  std::vector<std::uint8_t> nested;             // KVM_GET_NESTED_STATE; empty: none
  std::map<std::uint32_t, std::uint64_t> msrs;  // VMX capabilities, VM_CR, VM_HSAVE_PA
  // What KVM has counted of the vCPU, by its names; empty where nobody asked.
  std::map<std::string, std::uint64_t> counters = {};
};

struct NestedFinding;

// Everything that may be known about a death. Absent parts make the card shorter, never wrong.
struct CrashScene {
  RunOutcome outcome;
  std::string model;  // "haswell@4,-avx2", empty when unknown
  CpuidTable cpuid;   // what the guest sees; empty when unknown
  // Per vCPU; the one the outcome names is looked at first. Empty when unknown.
  std::vector<CpuState> vcpus;
  unsigned vcpu = 0;              // which of them died
  bool vcpu_known = true;         // false for dumps that do not say
  bool registers_trusted = true;  // false after SHUTDOWN on SVM: KVM has reset the vCPU
  const MemoryReader* memory = nullptr;
  // Where `memory` is L2's, as EPT maps it: the hypervisor's own.
  const MemoryReader* hypervisor_memory = nullptr;
  const SymbolTable* symbols = nullptr;
  std::vector<TraceEvent> last_exits;  // oldest first
  // What started each processor; empty where no one saw that: KVM's LAPIC, dumps.
  std::vector<ProcessorStart> starts;
  // Per vCPU, for a model with VT-x or SVM; empty else.
  std::vector<HypervisorState> hypervisors;
  // SVM: pages of RAM that look like a VMCB that VMRUN refused; empty where nobody looked for them.
  std::vector<Gpa> refused_vmcbs;
  // Who keeps a bit of a VMX capability MSR from being set: the model, or the host. Empty: unknown.
  std::function<std::string(std::uint32_t msr, unsigned bit)> capability_origin;
  std::string kvm_backend;       // "vmx", "svm", "pvm"; empty when unknown
  bool host_has_pdpe1gb = true;  // KVM_GET_SUPPORTED_CPUID offers 1 GiB pages
  // The processor itself walks the guest's tables (NPT, EPT): what is reserved in them is then for
  // the silicon to say. Under shadow paging KVM walks, by the rules of the model.
  bool nested_paging = false;
  std::vector<std::uint8_t> code;  // bytes at RIP, for dumps without memory
  // True for dumps: what `memory` cannot read is unknown, rather than known to be no RAM.
  bool memory_is_partial = false;
  // For dumps, where the CPUID is unknown: what else says about the paging features.
  std::optional<PagingFeatures> paging_features;
  // False where the registers come without EFER and the guess is from the others.
  bool efer_known = true;
};

// A card: the rule that named the cause, and the lines for the terminal.
struct CrashCard {
  std::string rule;   // stable id, "pdpte-ps-without-pdpe1gb"; "unexplained" when no rule matched
  std::string cause;  // one sentence
  std::string layer;  // who has to change something: "guest", "host" or "monitor"
  std::vector<std::string> lines;  // at most kMaxCardLines of at most 120 columns, cause first

  std::string text() const;  // lines joined, each ending in a newline
};

constexpr std::size_t kMaxCardLines = 25;

CrashCard explain(const CrashScene& scene);
// The same where nested_findings(scene) (explain_nested.h) are known already.
CrashCard explain(const CrashScene& scene, const std::vector<NestedFinding>& nested);

// The paging lint over a live machine: each finding one line, "paging: ...".
std::vector<std::string> paging_lint_lines(const CrashScene& scene);

}  // namespace vmm
