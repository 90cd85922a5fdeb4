// monitor level, vmcs, vmcb: a guest hypervisor looked at from outside.
#include <fmt/format.h>

#include <array>

#include "vmm/base/text.h"
#include "vmm/machine/explain_nested.h"
#include "vmm/machine/monitor_parts.h"
#include "vmm/nested/dump.h"
#include "vmm/nested/svm_entry.h"
#include "vmm/nested/vmcb.h"
#include "vmm/nested/vmcs_text.h"
#include "vmm/nested/vmx_entry.h"

namespace vmm::monitor {
namespace {

std::string report_text(const nested::CheckReport& report) {
  std::string text;
  for (const nested::Violation& violation : report.violations)
    text += fmt::format("{}; gives {}\n", violation.text(),
                        nested::result_text(violation.rule->result));
  text += fmt::format("{} violations; {} rules checked, {} could not be\n",
                      report.violations.size(), report.checked, report.unchecked.size());
  return text;
}

// "show", "check" or "dump" in front of the rest; "show" where none is said.
struct Wish {
  std::string_view act = "show";
  std::span<const std::string_view> rest;
};

Wish wish_of(const Request& r) {
  if (!r.words.empty() && (r.words[0] == "show" || r.words[0] == "check" || r.words[0] == "dump"))
    return {r.words[0], r.words.subspan(1)};
  return {"show", r.words};
}

// For `vmm vmcs` to read.
MonitorAnswer dumped(const Request& r, const std::string& what,
                     std::span<const std::uint8_t> bytes) {
  const std::string model = r.scene.machine.about().model;
  return done(
      nested::dump_text(model.empty() ? what : what + ", CPU model " + printable(model), bytes));
}

// The current VMCS of the vCPU, from KVM, or one that lies in memory as VMCLEAR left it.
Result<nested::VmxEntry> entry_of(const Request& r, const HypervisorState& hypervisor,
                                  std::span<const std::string_view> where) {
  if (!where.empty()) {
    const auto address = number_of(r.scene, where[0]);
    if (!address) return fail(Error::usage(fmt::format("{}: no address", printable(where[0]))));
    std::array<std::uint8_t, nested::kVmcsBytes> bytes{};
    if (!r.scene.target.memory().read(*address, bytes))
      return fail(Error::usage(fmt::format("{:X}h is not RAM", *address)));
    nested::VmxEntry entry{.vmcs = VMM_TRY(nested::Vmcs::from(bytes))};
    entry.vmcs_address = *address;
    return entry;
  }
  if (hypervisor.nested.empty())
    return fail(Error::usage("the CPU model has neither VT-x nor SVM"));
  const nested::NestedState state = VMM_TRY(nested::parse_nested_state(hypervisor.nested));
  if (state.format == nested::NestedState::Format::Svm)
    return fail(Error::usage("this is SVM: vmcb ADDRESS shows a VMCB"));
  if (state.vmxon_address == nested::kNoAddress)
    return fail(Error::usage(fmt::format("vCPU {} is not in VMX operation", r.scene.vcpu)));
  if (!state.vmcs)
    return fail(Error::usage(fmt::format("vCPU {} has no current VMCS", r.scene.vcpu)));
  nested::VmxEntry entry{.vmcs = *state.vmcs};
  entry.vmcs_address = state.vmcs_address;
  entry.vmxon_address = state.vmxon_address;
  return entry;
}

}  // namespace

MonitorAnswer level(const Request& r) {
  if (!r.words.empty()) return usage();
  const auto live = live_facts(r.scene, r.scene.vcpu, Look::Everywhere);
  if (!live) return failed(live.error());
  std::string text;
  for (const NestedFinding& finding : (*live)->facts->nested)
    for (const std::string& line : finding.lines) text += line + "\n";
  return done(text.empty() ? "no vCPU runs a hypervisor\n" : text);
}

MonitorAnswer vmcs(const Request& r) {
  const Wish wish = wish_of(r);
  if (wish.rest.size() > 1) return usage();
  const HypervisorState hypervisor = r.scene.machine.hypervisor_state(r.scene.vcpu);
  auto entry = entry_of(r, hypervisor, wish.rest);
  if (!entry) return failed(entry.error());
  if (wish.act == "dump") {
    if (wish.rest.empty())
      return dumped(r, fmt::format("KVM's nested state of vCPU {}", r.scene.vcpu),
                    hypervisor.nested);
    return dumped(r, fmt::format("VMCS in memory at {:X}h", *entry->vmcs_address),
                  entry->vmcs.bytes());
  }
  if (wish.act == "show")
    return done(fmt::format("VMCS at {:X}h{}: {}", *entry->vmcs_address,
                            wish.rest.empty() ? " (as KVM holds it)" : " (as memory has it)",
                            nested::vmcs_text(entry->vmcs, false)));
  entry->capabilities = nested::VmxCapabilities(hypervisor.msrs);
  entry->cpuid = &r.scene.target.cpuid();
  entry->memory = &r.scene.target.memory();
  return done(report_text(nested::check_vm_entry(*entry)));
}

MonitorAnswer vmcb(const Request& r) {
  const Wish wish = wish_of(r);
  if (wish.rest.size() != 1) return usage();
  const auto address = number_of(r.scene, wish.rest[0]);
  if (!address) return usage(fmt::format("{}: no address", printable(wish.rest[0])));
  std::array<std::uint8_t, nested::kVmcbSize> bytes{};
  if (!r.scene.target.memory().read(*address, bytes))
    return failed(fmt::format("{:X}h is not RAM", *address));
  if (wish.act == "dump") return dumped(r, fmt::format("VMCB at {:X}h", *address), bytes);
  if (wish.act == "show")
    return done(fmt::format("VMCB at {:X}h\n{}\n", *address,
                            fmt::join(nested::describe(nested::Vmcb(bytes)), "\n")));
  nested::SvmEntry entry{.vmcb = bytes,
                         .vmcb_pa = *address,
                         .cpuid = &r.scene.target.cpuid(),
                         .memory = &r.scene.target.memory()};
  return done(report_text(nested::check_vmrun(entry)));
}

}  // namespace vmm::monitor
