#include <algorithm>

#include "vmm/base/text.h"
#include "vmm/machine/explain_rule_parts.h"
#include "vmm/machine/explain_starts.h"

namespace vmm {
namespace {

MaybeVerdict registers_reset(const Facts& f) {
  if (!ended_by<ending::TripleFault>(f) || f.scene.registers_trusted) return std::nullopt;
  Verdict v;
  v.cause = "the guest triple-faulted; SVM has reset the vCPU before KVM could look at it";
  v.notes.push_back(
      f.is_reset_state()
          ? "the registers of the fault are gone (the VMCB is undefined after a SHUTDOWN "
            "intercept): none are shown"
          : "the registers of the fault are gone (the VMCB is undefined after a SHUTDOWN "
            "intercept); below: those of the last exit before it");
  if (!f.is_reset_state()) {
    for (const unsigned vector : {14u, 13u, 8u}) {
      const GateReport gate = f.gate(vector);
      if (gate.usable || !gate.known) continue;
      v.notes.push_back(fmt::format("at that time no exception could be taken: {}", gate.text));
      break;
    }
    if (f.rip_place.failed())
      v.notes.push_back("and RIP was not mapped: " + f.rip_place.walk.failure->text);
  } else if (!f.scene.last_exits.empty()) {
    const TraceEvent& last = f.scene.last_exits.back();
    v.notes.push_back(fmt::format("last seen alive: RIP {} at the exit \"{}\"", f.address(last.rip),
                                  printable(last.text(), 60)));
  }
  v.tries = {"run it on a host with VT-x or PVM, where the registers of the fault are kept",
             "or write to port e9h (debugcon) on the way, and see how far the guest comes"};
  return v;
}

MaybeVerdict entry_failure(const Facts& f) {
  const auto* failure = std::get_if<ending::EntryFailure>(&f.scene.outcome);
  if (failure == nullptr) return std::nullopt;
  Verdict v;
  v.layer = "monitor";
  const auto violations = entry_violations(f);
  v.rule = violations.empty() ? "entry-failure-unknown"
                              : fmt::format("entry-failure-{}", violations.front().first);
  const std::string reason =
      failure->reason == ~0ull || failure->reason == 0xffffffff ? "VMEXIT_INVALID"
      : (failure->reason >> 31 & 1) != 0 ? exit_reason_name(failure->reason & 0xffffffff, "vmx")
                                         : fmt::format("VM-instruction error {}", failure->reason);
  v.cause =
      violations.empty()
          ? fmt::format("VM entry failed ({}), and the registers break no rule known here", reason)
          : fmt::format("VM entry failed ({}): {}", reason, violations.front().second);
  for (std::size_t i = 1; i < violations.size() && i < 6; ++i)
    v.notes.push_back(violations[i].second);
  v.tries = {"the state is what KVM_SET_SREGS was given, by the loader or the debugger: look there",
             "kvm_intel.dump_invalid_vmcs=1 or kvm_amd.dump_invalid_vmcb=1 writes all of it to "
             "the host's dmesg"};
  return v;
}

// Error 7 is about controls, which KVM writes, and not about the guest's state. One way is known:
// with its LAPIC off, or in x2APIC mode, the guest has no "virtualize APIC accesses", so the
// processor checks at each entry that the TPR threshold is not above the virtual TPR (SDM Vol.
// 3C, 27.2.1.1). With an interrupt pending that PPR holds back KVM sets the threshold, and leaves
// it there when the guest lowers CR8 below (Linux 6.1).
MaybeVerdict tpr_threshold(const Facts& f) {
  const auto* failure = std::get_if<ending::EntryFailure>(&f.scene.outcome);
  constexpr std::uint64_t kInvalidControls = 7;
  constexpr std::uint64_t kEnabled = 1U << 11;  // IA32_APIC_BASE (SDM Vol. 3A, 11.4.4, 11.12.1)
  constexpr std::uint64_t kX2apic = 1U << 10;
  if (failure == nullptr || failure->reason != kInvalidControls || f.cpu == nullptr)
    return std::nullopt;
  const std::uint64_t base = f.cpu->sregs.apic_base;  // 0 where a dump does not tell
  const bool off = (base & kEnabled) == 0;
  if (f.scene.kvm_backend != "vmx" || base == 0 || !(off || (base & kX2apic) != 0))
    return std::nullopt;
  Verdict v;
  v.layer = "host";
  v.rule = "entry-failure-tpr-threshold";
  v.cause = fmt::format(
      "VM entry failed (VM-instruction error {}): the guest's LAPIC is {} (IA32_APIC_BASE {:x}h), "
      "and "
      "KVM's TPR threshold is above CR8",
      failure->reason, off ? "off" : "in x2APIC mode", base);
  v.notes = {
      "a fault of KVM's: with an interrupt pending in its LAPIC the guest lowered CR8, and KVM did "
      "not follow"};
  v.tries = {"--irqchip user, or APICv (kvm_intel.enable_apicv=1); or leave CR8 alone there"};
  return v;
}

// A guest hypervisor whose last VM entry was refused, and the rule that it breaks. What it did
// then, a halt, a panic, an exit code, is its own way of saying so.
MaybeVerdict vm_entry_refused(const Facts& f) {
  for (const NestedFinding& finding : f.nested) {
    if (finding.failure.empty()) continue;
    const nested::Violation& first = finding.report.violations.front();
    Verdict v;
    v.rule = fmt::format("vm-entry-{}", lower(first.rule->id));
    const bool vmx = finding.state.format == nested::NestedState::Format::Vmx;
    v.cause = fmt::format("the guest hypervisor's {}: {} {}", finding.what, first.rule->subject,
                          first.rule->text);
    if (first.msr) v.cause += fmt::format(", {}", first.allowed);
    if (const std::string origin = capability_origin(f.scene, first); !origin.empty())
      v.cause += "; " + origin;
    v.tries = {fmt::format("the rule is in {} {} ({})", vmx ? "SDM Vol. 3C" : "APM Vol. 2",
                           first.rule->section, nested::finder_text(first.rule->finder))};
    return v;
  }
  return std::nullopt;
}

// A guest's guest that gave up: a panic that ends in a reset, for one.
MaybeVerdict reset_from_l2(const Facts& f) {
  if (!ended_by<ending::Reset>(f)) return std::nullopt;
  for (const NestedFinding& finding : f.nested) {
    if (!finding.l2_lacks_instructions()) continue;
    const nested::DeniedInstruction& first = finding.denied.front();
    Verdict v;
    v.cause = denied_text(f.scene, first);
    v.notes = {
        fmt::format("L2 on vCPU {} asked for the reset; whether it had executed {} is not "
                    "known here: its own log may name a #UD",
                    finding.vcpu, first.name)};
    v.tries = denied_tries();
    return v;
  }
  return std::nullopt;
}

MaybeVerdict waiting_for_sipi(const Facts& f) {
  if (!ended_by<ending::HaltedForever>(f) || f.scene.vcpus.empty()) return std::nullopt;
  const bool all = std::all_of(f.scene.vcpus.begin(), f.scene.vcpus.end(), [](const CpuState& c) {
    return c.mp_state == KVM_MP_STATE_UNINITIALIZED || c.mp_state == KVM_MP_STATE_INIT_RECEIVED;
  });
  if (!all) return std::nullopt;
  Verdict v;
  v.cause = "every vCPU waits for a SIPI, and none is left to send it";
  v.notes = vcpu_lines(f, 16);
  v.tries = {
      "an INIT went to the processor that starts the others too: look at the destination "
      "shorthand of the ICR (\"all excluding self\" is 11b)"};
  return v;
}

MaybeVerdict halted(const Facts& f) {
  if (!ended_by<ending::HaltedForever>(f)) return std::nullopt;
  Verdict v;
  const std::size_t count = f.scene.vcpus.size();
  v.cause = count == 0 ? "every vCPU is halted for ever"
            : count == 1
                ? fmt::format("vCPU 0 is halted with interrupts off at {}: nothing can wake it",
                              f.address(place_of_halt(f, f.scene.vcpus[0])))
                : "every vCPU is halted with interrupts off or waits for a SIPI: nothing can wake "
                  "them";
  if (count > 1) v.notes = vcpu_lines(f, 16);
  v.tries = {
      "if this is the guest's end: write the verdict to port f4h, or 2000h to port 604h",
      "if it waits for an interrupt: STI before HLT; if it is a panic loop: see the console"};
  return v;
}

MaybeVerdict out_of_time(const Facts& f) {
  const bool stalled = ended_by<ending::Stalled>(f);
  if (!stalled && !ended_by<ending::TimedOut>(f)) return std::nullopt;
  Verdict v;
  v.rule = stalled ? "stalled" : "timed-out";
  v.cause = headline(f.scene.outcome);
  v.notes = vcpu_lines(f, 16);
  v.tries = {stalled ? "look at what each vCPU waits for, above"
                     : "a loop at the same RIP in two runs is where it hangs; else give more with "
                       "--timeout"};
  return v;
}

MaybeVerdict unexpected_exit(const Facts& f) {
  if (!suberror_is(f, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON)) return std::nullopt;
  Verdict v;
  v.layer = "host";
  v.cause = fmt::format(
      "{} met a VM exit that it does not know ({}): a fault of the host, not of the guest",
      kvm_name(f),
      f.error.reason ? exit_reason_name(*f.error.reason, f.error.backend) : "reason not given");
  v.tries = {"another kernel on the host; report it with the exit reason to kvm@vger.kernel.org"};
  return v;
}

// Which of the things that a delivery reads and writes lies in the page that was touched.
void name_delivery_suspects(const Facts& f, Verdict& v) {
  if (f.cpu == nullptr) return;
  const kvm_sregs& s = f.cpu->sregs;
  const unsigned vector = f.error.vectoring ? static_cast<unsigned>(*f.error.vectoring & 0xff) : 0;
  const unsigned entry_size = (s.efer & spec::EFER_LMA) != 0 ? 16 : 8;
  const std::pair<std::string_view, Gva> kSuspects[] = {
      {"the IDT entry", s.idt.base + vector * entry_size},
      {"the GDT", s.gdt.base},
      {"the TSS", s.tr.base},
      {"the stack", f.stack_place().linear}};
  for (const auto& [name, linear] : kSuspects) {
    const Place place = f.place_of(linear, {.implicit = true});
    if (f.error.gpa && place.gpa() && *place.gpa() >> 12 == *f.error.gpa >> 12)
      v.notes.push_back(fmt::format("{}, at {:x}h, leads to that page", name, linear));
    else if (f.error.gpa && !place.known && linear >> 12 == *f.error.gpa >> 12)
      v.notes.push_back(
          fmt::format("{}, at {:x}h, is in that page if it is mapped to itself", name, linear));
  }
  v.notes.push_back(
      fmt::format("IDTR {:x}h limit {:x}h, GDTR {:x}h limit {:x}h, TR {:x}h base {:x}h", s.idt.base,
                  s.idt.limit, s.gdt.base, s.gdt.limit, s.tr.selector, s.tr.base));
  const GateReport gate = f.gate(vector);
  if (f.error.vectoring && gate.known) v.notes.push_back(gate.text);
}

MaybeVerdict delivery_hits_hole(const Facts& f) {
  if (!suberror_is(f, KVM_INTERNAL_ERROR_DELIVERY_EV)) return std::nullopt;
  Verdict v;
  const std::string what = f.error.vectoring ? vectoring_text(*f.error.vectoring) : "an event";
  v.cause = f.error.gpa
                ? fmt::format("while delivering {}, the CPU touched GPA {:x}h, which is {}", what,
                              *f.error.gpa, hole_name(*f.error.gpa))
                : fmt::format("while delivering {}, the CPU touched memory that is not RAM", what);
  v.notes.push_back("so the IDT, the GDT, the TSS or the stack lies (partly) outside RAM");
  name_delivery_suspects(f, v);
  v.tries = {
      "check where IDTR, GDTR, TR and RSP lead; a stack that ran down out of RAM is the usual "
      "case"};
  return v;
}

MaybeVerdict exception_during_delivery(const Facts& f) {
  if (!suberror_is(f, KVM_INTERNAL_ERROR_SIMUL_EX)) return std::nullopt;
  Verdict v;
  v.cause =
      f.error.vectoring
          ? fmt::format("an exception came up while {} was delivered, and KVM could not go on",
                        vectoring_text(*f.error.vectoring))
          : "an exception came up while another was delivered, and KVM could not go on";
  name_delivery_suspects(f, v);
  v.tries = {"check the gate, the stack and the TSS of that vector"};
  return v;
}

constexpr Rule kEndingRules[] = {
    {"vm-entry-refused", vm_entry_refused},
    {"reset-from-l2", reset_from_l2},
    {"processor-started-in-nothing", started_in_nothing},
    {"inferred-from-tables", tables_found},
    {"registers-reset-by-svm", registers_reset},
    {"entry-failure-tpr-threshold", tpr_threshold},
    {"entry-failure", entry_failure},
    {"waiting-for-sipi", waiting_for_sipi},
    {"halted-with-interrupts-off", halted},
    {"out-of-time", out_of_time},
    {"unexpected-exit-reason", unexpected_exit},
    {"event-delivery-hits-hole", delivery_hits_hole},
    {"exception-during-delivery", exception_during_delivery},
};

}  // namespace

std::span<const Rule> ending_rules() { return kEndingRules; }

}  // namespace vmm
