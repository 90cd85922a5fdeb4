#include "vmm/machine/explain_nested.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/machine/explain_nested_parts.h"
#include "vmm/nested/svm_exits.h"
#include "vmm/nested/vmcb.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm {
namespace {

using nested::VmcsField;

constexpr std::size_t kShownViolations = 8;
constexpr std::uint32_t kVmHsavePa = 0xc0010117;

bool breaks(const nested::CheckReport& report, auto wanted) {
  return std::ranges::any_of(report.violations, [&](const nested::Violation& violation) {
    return wanted(violation.rule->result);
  });
}

// What the VMCS holds of its last entry, and whether that still fits what is broken: an error
// number stays when a later entry succeeds.
std::string failure_of(const nested::Vmcs& vmcs, const nested::CheckReport& report) {
  using enum nested::EntryResult;
  const auto reason = static_cast<std::uint32_t>(vmcs.get(VmcsField::VmExitReason));
  const bool guest_state = breaks(report, [](nested::EntryResult result) {
    return result == Exit33 || result == Exit33Pdpte || result == Exit33Nmi ||
           result == Exit33Link || result == Exit34;
  });
  if ((reason & nested::kEntryFailure) != 0 && guest_state)
    return fmt::format("exit {}", nested::vmx_exit_text(reason));
  const auto error = static_cast<std::uint32_t>(vmcs.get(VmcsField::VmInstructionError));
  const bool controls = breaks(report, [](auto result) { return result == VmFail7; });
  const bool host = breaks(report, [](auto result) { return result == VmFail8; });
  if ((error == 7 && controls) || (error == 8 && host))
    return "VM-instruction error " + nested::vm_instruction_error_text(error);
  return {};
}

// Where L2's RIP leads through its own tables and then through EPT, when the latter refuses it.
void describe_ept(const CrashScene& scene, const NestedFinding& finding,
                  std::vector<std::string>& lines) {
  const CpuState* cpu = cpu_of(scene, finding.vcpu);
  const auto l2 = l2_memory(scene, finding.vcpu);
  if (cpu == nullptr || l2 == nullptr) return;
  const Walk walk =
      walk_page(*l2, paging_of(scene, *cpu), cpu->sregs.cs.base + cpu->regs.rip, {.fetch = true});
  if (!walk.gpa) return;
  const nested::Vmcs& vmcs = *finding.state.vmcs;
  const nested::EptWalk ept =
      nested::walk_ept(*physical_memory(scene), vmcs.get(VmcsField::EptPointer),
                       ept_features(scene, finding.vcpu, vmcs), *walk.gpa, {.fetch = true});
  if (ept.address) return;
  lines.push_back(
      fmt::format("L2's RIP {:X}h is at {:X}h of its memory:", cpu->regs.rip, *walk.gpa));
  for (const std::string& line : nested::describe(ept)) lines.push_back("  " + line);
}

// What the registers of the card are not.
void describe_l2(const NestedFinding& finding, std::vector<std::string>& lines) {
  const nested::Vmcs& vmcs = *finding.state.vmcs;
  lines.push_back(
      fmt::format("vCPU {} is in L2 (the registers are L2's); an exit goes on in L1 at "
                  "{:X}h, RSP {:X}h, CR3 {:X}h",
                  finding.vcpu, vmcs.get(VmcsField::HostRip), vmcs.get(VmcsField::HostRsp),
                  vmcs.get(VmcsField::HostCr3)));
}

// The VM entries that KVM has made for the hypervisor.
constexpr const char* kEntries = "nested_run";

std::uint64_t count_of(const CrashScene& scene, unsigned vcpu, const char* name) {
  const auto& counters = scene.hypervisors[vcpu].counters;
  const auto found = counters.find(name);
  return found == counters.end() ? 0 : found->second;
}

void describe_counters(const CrashScene& scene, NestedFinding& finding) {
  finding.counters = scene.hypervisors[finding.vcpu].counters;
  if (finding.counters.empty()) return;
  finding.lines.push_back(
      fmt::format("by KVM's counters: {} entries into L2, {} exits of either level to KVM (why: "
                  "--kvm-trace)",
                  count_of(scene, finding.vcpu, kEntries), count_of(scene, finding.vcpu, "exits")));
}

// Of a VMCS that L2 has run with.
void describe_denied(const CrashScene& scene, NestedFinding& finding) {
  const nested::NestedState& state = finding.state;
  if (!state.guest_mode && state.vmcs->launch_state() == 0) return;
  finding.denied = nested::denied_instructions(
      *state.vmcs, nested::VmxCapabilities(scene.hypervisors[finding.vcpu].msrs), scene.cpuid);
  for (const nested::DeniedInstruction& denied : finding.denied)
    finding.lines.push_back(denied_text(scene, denied));
}

void describe_vmx(const CrashScene& scene, NestedFinding& finding) {
  const nested::NestedState& state = finding.state;
  std::vector<std::string>& lines = finding.lines;
  if (state.guest_mode && state.vmcs) {
    finding.walks = l2_walks(scene, finding.vcpu);
    describe_l2(finding, lines);
    describe_ept(scene, finding, lines);
  } else {
    std::string line = fmt::format("vCPU {} is in L1: {}, {}", finding.vcpu,
                                   region_text("VMXON region", state.vmxon_address),
                                   region_text("current VMCS", state.vmcs_address));
    if (state.vmcs) line += state.vmcs->launch_state() == 0 ? " (clear)" : " (launched)";
    lines.push_back(std::move(line));
  }
  describe_counters(scene, finding);
  if (!state.vmcs) return;
  if (!finding.failure.empty()) lines.push_back("its last VM entry failed: " + finding.failure);
  describe_violations(scene, finding);
  describe_denied(scene, finding);
}

// One VMCB that VMRUN refused. Which vCPU it was is not known: KVM keeps nothing of it.
NestedFinding refused_vmcb(const CrashScene& scene, unsigned vcpu, const nested::NestedState& state,
                           Gpa address) {
  NestedFinding finding{.vcpu = vcpu, .state = state};
  std::array<std::uint8_t, nested::kVmcbSize> bytes{};
  const MemoryReader* memory = physical_memory(scene);
  if (memory == nullptr || !memory->read(address, bytes)) return finding;
  finding.report = nested::check_vmrun(svm_entry_of(scene, vcpu, bytes, address));
  // After VMRUN they would be judged by what is no longer there: #VMEXIT clears EVENTINJ, and KVM
  // leaves the hypervisor's CR3 in the VMCB when PDPTEs were the reason.
  std::erase_if(finding.report.violations, [](const nested::Violation& violation) {
    const std::string_view id = violation.rule->id;
    return id == "A17" || id == "A18" || id == "A19" || id == "A38";
  });
  finding.what = fmt::format("VMRUN refused the VMCB at {:X}h", address);
  finding.bytes.assign(bytes.begin(), bytes.end());
  finding.bytes_name = fmt::format("VMCB at {:X}h", address);
  finding.lines.push_back(
      fmt::format("VMCB at {:X}h: {}", address,
                  nested::svm_exit_text(nested::Vmcb(bytes).get(nested::VmcbId::ExitCode))));
  if (finding.report.clean())
    finding.lines.push_back(
        "it breaks no rule that can still be checked: EVENTINJ is gone after VMRUN, and so are "
        "PDPTEs");
  else
    finding.failure = "VMEXIT_INVALID";
  describe_violations(scene, finding);
  return finding;
}

// What `vmm vmcs` can read later.
void keep_state(const CrashScene& scene, NestedFinding& finding) {
  if (!finding.state.vmcs && finding.state.vmcb.empty()) return;
  finding.bytes = scene.hypervisors[finding.vcpu].nested;
  finding.bytes_name = fmt::format("KVM's nested state of vCPU {}", finding.vcpu);
}

NestedFinding vcpu_of_svm(const CrashScene& scene, unsigned vcpu,
                          const nested::NestedState& state) {
  NestedFinding finding{.vcpu = vcpu, .state = state};
  std::string line = fmt::format("vCPU {} is in L1", vcpu);
  if (state.guest_mode)
    line = fmt::format("vCPU {} is in L2 (the registers are L2's), by the VMCB at {:X}h", vcpu,
                       state.vmcb_address);
  if (const auto hypervisor = nested::Vmcb::view(state.vmcb); hypervisor && state.guest_mode)
    line += fmt::format("; an exit goes on in L1 at {:X}h, RSP {:X}h, CR3 {:X}h",
                        hypervisor->get(nested::VmcbId::Rip), hypervisor->get(nested::VmcbId::Rsp),
                        hypervisor->get(nested::VmcbId::Cr3));
  if (state.guest_mode) finding.walks = l2_walks(scene, vcpu);
  finding.lines.push_back(std::move(line));
  describe_counters(scene, finding);
  keep_state(scene, finding);
  return finding;
}

}  // namespace

nested::EptFeatures ept_features(const CrashScene& scene, unsigned vcpu, const nested::Vmcs& vmcs) {
  constexpr unsigned kWidest = 52;
  return nested::EptFeatures::from(
      nested::VmxCapabilities(scene.hypervisors[vcpu].msrs).get(nested::kMsrVmxEptVpid),
      scene.cpuid.entries().empty() ? kWidest : scene.cpuid.phys_bits(),
      vmcs.secondary(nested::kModeBasedExecute));
}

nested::VmxEntry vmx_entry_of(const CrashScene& scene, unsigned vcpu,
                              const nested::NestedState& state) {
  nested::VmxEntry entry{.vmcs = *state.vmcs};
  entry.vmcs_address = state.vmcs_address;
  entry.vmxon_address = state.vmxon_address;
  entry.capabilities = nested::VmxCapabilities(scene.hypervisors[vcpu].msrs);
  if (!scene.cpuid.entries().empty()) entry.cpuid = &scene.cpuid;
  entry.memory = physical_memory(scene);
  if (const CpuState* cpu = cpu_of(scene, vcpu)) {
    const kvm_sregs& s = cpu->sregs;
    const bool blocked = (cpu->events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS) != 0;
    entry.hypervisor = nested::VmxHypervisor{.cr0 = s.cr0,
                                             .cr4 = s.cr4,
                                             .efer = s.efer,
                                             .rflags = cpu->regs.rflags,
                                             .cpl = s.cs.dpl,
                                             .cs_l = s.cs.l != 0,
                                             .blocked_by_mov_ss = blocked};
  }
  return entry;
}

nested::SvmEntry svm_entry_of(const CrashScene& scene, unsigned vcpu,
                              std::span<const std::uint8_t, nested::kVmcbSize> vmcb, Gpa address) {
  nested::SvmEntry entry{.vmcb = vmcb, .vmcb_pa = address, .memory = physical_memory(scene)};
  if (!scene.cpuid.entries().empty()) entry.cpuid = &scene.cpuid;
  if (const CpuState* cpu = cpu_of(scene, vcpu)) {
    entry.host.cr0 = cpu->sregs.cr0;
    entry.host.efer = cpu->sregs.efer;
    entry.host.cpl = cpu->sregs.cs.dpl;
  }
  const auto& msrs = scene.hypervisors[vcpu].msrs;
  if (const auto found = msrs.find(kVmHsavePa); found != msrs.end())
    entry.host.hsave_pa = found->second;
  return entry;
}

std::string region_text(std::string_view name, std::uint64_t address) {
  return address == nested::kNoAddress ? fmt::format("no {}", name)
                                       : fmt::format("{} {:X}h", name, address);
}

void describe_violations(const CrashScene& scene, NestedFinding& finding) {
  std::size_t shown = 0;
  for (const nested::Violation& violation : finding.report.violations) {
    if (shown++ == kShownViolations) {
      finding.lines.push_back(
          fmt::format("... and {} more", finding.report.violations.size() - kShownViolations));
      break;
    }
    finding.lines.push_back(violation_text(scene, violation));
  }
}

std::string capability_origin(const CrashScene& scene, const nested::Violation& violation) {
  if (!violation.msr || !scene.capability_origin) return {};
  return scene.capability_origin(*violation.msr, violation.msr_bit);
}

std::string violation_text(const CrashScene& scene, const nested::Violation& violation) {
  const std::string origin = capability_origin(scene, violation);
  return violation.text() + (origin.empty() ? "" : "; " + origin);
}

std::string denied_text(const CrashScene& scene, const nested::DeniedInstruction& denied) {
  std::string text = denied.text();
  if (!denied.allowed || *denied.allowed || !scene.capability_origin) return text;
  const std::string origin = scene.capability_origin(nested::kMsrVmxProcBased2, denied.msr_bit());
  return origin.empty() ? text : text + "; " + origin;
}

std::vector<NestedFinding> nested_findings(const CrashScene& scene) {
  std::vector<NestedFinding> findings;
  const auto* caught = std::get_if<ending::Caught>(&scene.outcome);
  for (unsigned vcpu = 0; vcpu < scene.hypervisors.size(); ++vcpu) {
    if (caught != nullptr && caught->vcpu == vcpu)
      if (auto ahead = entry_ahead(scene, vcpu)) {
        describe_counters(scene, ahead->finding);
        if (ahead->finding.bytes.empty()) keep_state(scene, ahead->finding);
        findings.push_back(std::move(ahead->finding));
        continue;
      }
    const auto state = nested::parse_nested_state(scene.hypervisors[vcpu].nested);
    if (!state) continue;
    if (state->format == nested::NestedState::Format::Svm) {
      if (state->guest_mode || count_of(scene, vcpu, kEntries) != 0)
        findings.push_back(vcpu_of_svm(scene, vcpu, *state));
      // Of any vCPU's: they are told once.
      if (vcpu == 0)
        for (const Gpa address : scene.refused_vmcbs)
          findings.push_back(refused_vmcb(scene, vcpu, *state, address));
      continue;
    }
    if (state->vmxon_address == nested::kNoAddress) continue;
    NestedFinding finding{.vcpu = vcpu, .state = *state};
    if (state->vmcs && !state->guest_mode) {
      // The hypervisor stands behind the instruction by now: the rules that are about its own
      // registers cannot be checked any more, but EFER lasts.
      finding.report = nested::check_vm_entry(vmx_entry_of(scene, vcpu, *state));
      finding.failure = failure_of(*state->vmcs, finding.report);
      finding.what = fmt::format("VM entry failed on vCPU {}", vcpu);
    }
    describe_vmx(scene, finding);
    keep_state(scene, finding);
    findings.push_back(std::move(finding));
  }
  return findings;
}

}  // namespace vmm
