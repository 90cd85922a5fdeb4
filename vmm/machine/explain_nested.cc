#include "vmm/machine/explain_nested.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/nested/vmx_entry.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm {
namespace {

using nested::VmcsField;

constexpr std::size_t kShownViolations = 8;

const CpuState* cpu_of(const CrashScene& scene, unsigned vcpu) {
  return vcpu < scene.vcpus.size() ? &scene.vcpus[vcpu] : nullptr;
}

// As far as it is known. The hypervisor stands behind the instruction by now: the rules that are
// about its own registers cannot be checked any more, but EFER lasts.
nested::VmxEntry entry_of(const CrashScene& scene, unsigned vcpu,
                          const nested::NestedState& state) {
  nested::VmxEntry entry{.vmcs = *state.vmcs};
  entry.vmcs_address = state.vmcs_address;
  entry.vmxon_address = state.vmxon_address;
  entry.capabilities = nested::VmxCapabilities(scene.hypervisors[vcpu].msrs);
  if (!scene.cpuid.entries().empty()) entry.cpuid = &scene.cpuid;
  entry.memory = scene.memory;
  if (const CpuState* cpu = cpu_of(scene, vcpu)) {
    const kvm_sregs& s = cpu->sregs;
    entry.hypervisor = nested::VmxHypervisor{.cr0 = s.cr0,
                                             .cr4 = s.cr4,
                                             .efer = s.efer,
                                             .rflags = cpu->regs.rflags,
                                             .cpl = s.cs.dpl,
                                             .cs_l = s.cs.l != 0};
  }
  return entry;
}

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

std::string region_text(std::string_view name, std::uint64_t address) {
  return address == nested::kNoAddress ? fmt::format("no {}", name)
                                       : fmt::format("{} {:X}h", name, address);
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

void describe_vmx(const CrashScene& scene, NestedFinding& finding) {
  const nested::NestedState& state = finding.state;
  std::vector<std::string>& lines = finding.lines;
  if (state.guest_mode && state.vmcs) {
    describe_l2(finding, lines);
  } else {
    std::string line = fmt::format("vCPU {} is in L1: {}, {}", finding.vcpu,
                                   region_text("VMXON region", state.vmxon_address),
                                   region_text("current VMCS", state.vmcs_address));
    if (state.vmcs) line += state.vmcs->launch_state() == 0 ? " (clear)" : " (launched)";
    lines.push_back(std::move(line));
  }
  if (!state.vmcs) return;
  if (!finding.failure.empty()) lines.push_back("its last VM entry failed: " + finding.failure);
  std::size_t shown = 0;
  for (const nested::Violation& violation : finding.report.violations) {
    if (shown++ == kShownViolations) {
      lines.push_back(
          fmt::format("... and {} more", finding.report.violations.size() - kShownViolations));
      break;
    }
    lines.push_back(violation_text(scene, violation));
  }
}

}  // namespace

std::string violation_text(const CrashScene& scene, const nested::Violation& violation) {
  std::string text = violation.text();
  if (violation.msr && scene.capability_origin)
    if (const std::string origin = scene.capability_origin(*violation.msr, violation.msr_bit);
        !origin.empty())
      text += "; " + origin;
  return text;
}

std::vector<NestedFinding> nested_findings(const CrashScene& scene) {
  std::vector<NestedFinding> findings;
  for (unsigned vcpu = 0; vcpu < scene.hypervisors.size(); ++vcpu) {
    const auto state = nested::parse_nested_state(scene.hypervisors[vcpu].nested);
    if (!state || state->format != nested::NestedState::Format::Vmx ||
        state->vmxon_address == nested::kNoAddress)
      continue;
    NestedFinding finding{.vcpu = vcpu, .state = *state};
    if (state->vmcs && !state->guest_mode) {
      finding.report = nested::check_vm_entry(entry_of(scene, vcpu, *state));
      finding.failure = failure_of(*state->vmcs, finding.report);
    }
    describe_vmx(scene, finding);
    findings.push_back(std::move(finding));
  }
  return findings;
}

}  // namespace vmm
