// monitor level, vmcs, vmcb: a guest hypervisor looked at from outside.
#include <fmt/format.h>

#include <algorithm>
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

// "show", "check", "dump" or "diff" in front of the rest; "show" where none is said.
struct Wish {
  std::string_view act = "show";
  std::span<const std::string_view> rest;
};

Wish wish_of(const Request& r) {
  static constexpr std::array<std::string_view, 4> kActs = {"show", "check", "dump", "diff"};
  if (!r.words.empty() && std::ranges::find(kActs, r.words[0]) != kActs.end())
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

// A control block in memory, of either vendor.
struct ControlPage {
  static constexpr std::size_t kSize = 4096;
  static_assert(kSize == nested::kVmcsBytes && kSize == nested::kVmcbSize);
  Gpa address;
  std::array<std::uint8_t, kSize> bytes;
};

Result<ControlPage> page_at(const Request& r, std::string_view word) {
  const auto address = number_of(r.scene, word);
  if (!address) return fail(Error::usage(fmt::format("{}: no address", printable(word))));
  ControlPage page{.address = *address, .bytes = {}};
  if (!r.scene.target.memory().read(*address, page.bytes))
    return fail(Error::usage(fmt::format("{:X}h is not RAM", *address)));
  return page;
}

// The current VMCS of the vCPU, from KVM, or one that lies in memory as VMCLEAR left it.
Result<nested::VmxEntry> entry_of(const Request& r, const HypervisorState& hypervisor,
                                  std::span<const std::string_view> where) {
  if (!where.empty()) {
    const ControlPage page = VMM_TRY(page_at(r, where[0]));
    nested::VmxEntry entry{.vmcs = VMM_TRY(nested::Vmcs::from(page.bytes))};
    entry.vmcs_address = page.address;
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

MonitorAnswer differences(const std::string& text) {
  return done(text.empty() ? "no field differs\n" : text);
}

// The current VMCS against one in memory, or two there.
MonitorAnswer vmcs_diff(const Request& r, const HypervisorState& hypervisor,
                        std::span<const std::string_view> where) {
  if (where.empty() || where.size() > 2) return usage();
  const auto left = entry_of(r, hypervisor, where.first(where.size() - 1));
  if (!left) return failed(left.error());
  const auto right = entry_of(r, hypervisor, where.last(1));
  if (!right) return failed(right.error());
  return differences(nested::vmcs_diff_text(left->vmcs, right->vmcs));
}

MonitorAnswer vmcb_diff(const Request& r, std::span<const std::string_view> where) {
  if (where.size() != 2) return usage();
  const auto left = page_at(r, where[0]), right = page_at(r, where[1]);
  if (!left) return failed(left.error());
  if (!right) return failed(right.error());
  return differences(nested::vmcb_diff_text(nested::Vmcb(left->bytes), nested::Vmcb(right->bytes)));
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
  if (wish.act != "diff" && wish.rest.size() > 1) return usage();
  const HypervisorState hypervisor = r.scene.machine.hypervisor_state(r.scene.vcpu);
  if (wish.act == "diff") return vmcs_diff(r, hypervisor, wish.rest);
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
  if (wish.act == "diff") return vmcb_diff(r, wish.rest);
  if (wish.rest.size() != 1) return usage();
  if (!number_of(r.scene, wish.rest[0]))
    return usage(fmt::format("{}: no address", printable(wish.rest[0])));
  const auto page = page_at(r, wish.rest[0]);
  if (!page) return failed(page.error());
  if (wish.act == "dump")
    return dumped(r, fmt::format("VMCB at {:X}h", page->address), page->bytes);
  if (wish.act == "show")
    return done(fmt::format("VMCB at {:X}h\n{}\n", page->address,
                            fmt::join(nested::describe(nested::Vmcb(page->bytes)), "\n")));
  nested::SvmEntry entry{.vmcb = page->bytes,
                         .vmcb_pa = page->address,
                         .cpuid = &r.scene.target.cpuid(),
                         .memory = &r.scene.target.memory()};
  return done(report_text(nested::check_vmrun(entry)));
}

}  // namespace vmm::monitor
