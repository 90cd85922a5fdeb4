// The outcome of a run as a document: what --outcome-json writes (docs/outcome.md) and what stderr
// says.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "loader/image.h"
#include "vmm/cpu/resolve.h"
#include "vmm/machine/explain.h"
#include "vmm/machine/explain_nested.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/spec.h"
#include "vmm/machine/uefi_images.h"

namespace vmm {

// The version of the outcome's JSON schema (docs/outcome.schema.json).
constexpr int kOutcomeVersion = 1;

// All that is known about a run, gathered from a machine that has ended.
struct RunReport {
  RunOutcome outcome;
  std::optional<CrashCard> card;
  std::vector<std::string> paging_lint;
  std::vector<NestedFinding> hypervisors;  // of guests with VT-x or SVM
  std::vector<UefiImage> uefi_images;      // that firmware had loaded
  std::vector<CpuState> vcpus;
  unsigned vcpu = 0;  // whose end it was, where it was one's
  bool registers_trusted = true;
  std::vector<TraceEvent> last_exits;
  struct Unclaimed {
    std::string bus;  // "port" or "mmio"
    std::uint64_t address;
    UnclaimedAccess counts;
  };
  std::vector<Unclaimed> unclaimed;
  std::map<std::uint32_t, MsrCounts> unknown_msrs;
  std::vector<CpuidDifference> cpuid_differences;  // set against read back
  std::string guest_digest;  // of vCPU 0 as KVM reports it back (vmm/cpu/guest_text.h)
  IrqChipKind irqchip = IrqChipKind::User;
  std::uint32_t tsc_khz = 0;  // of the guest's TSC
  std::vector<std::string> kvm_capabilities;
  std::vector<std::string> disabled_quirks;
  struct Trace {
    std::string path;
    std::uint64_t events;
    std::uint64_t dropped;
    std::string error;  // why the file ends early; empty: it does not
  };
  std::optional<Trace> trace;                 // --trace
  std::optional<KvmExits> kvm_exits;          // --kvm-trace
  std::optional<TestVerdicts> test_verdicts;  // --compat kvm-unit-tests
  struct Disk {
    std::uint64_t failed_requests = 0;
    std::string problem;                  // the rule of VIRTIO that the driver broke; empty: none
    std::vector<std::string> notes = {};  // what its file or directory has to tell at the end
  };
  std::vector<Disk> disks;          // as in the spec
  std::uint64_t vars_failures = 0;  // --vars: what the host could not do for the guest
  Machine::Resets resets;
  double elapsed_seconds = 0;
};

// Looks at everything once; the machine is paused.
Result<RunReport> gather(Machine& machine, const RunOutcome& outcome, const MachineSpec& spec,
                         const ResolvedCpu& cpu, const HostGrant& host);

// The document for a run that took place.
nlohmann::json outcome_json(const RunReport& report, const MachineSpec& spec,
                            const ResolvedCpu& cpu, const HostGrant& host,
                            const LoadedImage& image);
// The document for a run that was refused before its first instruction; what is not known is null.
nlohmann::json refusal_json(const Error& error, const MachineSpec& spec, const ResolvedCpu* cpu,
                            const HostGrant* host);

// The lines for stderr after the run: card, oddities, headline.
std::string summary_text(const RunReport& report, const MachineSpec& spec);
// What KVM shows the guest instead of what was set; empty when nothing differs.
std::string differences_text(const std::vector<CpuidDifference>& differences);
// One line a missing bit or, for `mask` and `force`, a short list; empty when nothing is missing.
std::string missing_text(const ResolvedCpu& cpu);

}  // namespace vmm
