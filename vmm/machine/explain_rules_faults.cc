#include <algorithm>

#include "vmm/machine/explain_rule_parts.h"

namespace vmm {
namespace {

using Kind = FirstFault::Kind;

// A sentence on which gates cannot be used, for a triple fault; empty when all can or none is
// known.
std::string gates_clause(const Facts& f, unsigned vector) {
  if (!ended_by<ending::TripleFault>(f)) return "";
  const GateReport gate = f.gate(vector);
  if (gate.usable || !gate.known) return "";
  return fmt::format(", and the IDT cannot take it: {}", gate.text);
}

MaybeVerdict lacks_cpuid_bit(const Facts& f) {
  if (!is_crash(f) || !f.fault || f.fault->kind != Kind::LacksCpuid) return std::nullopt;
  Verdict v;
  v.cause = fmt::format("#UD: {} at {}, but {} lacks {} ({} = 0)", f.insn->text, f.address(f.rip),
                        f.model, f.fault->feature, f.fault->depends_on);
  v.tries = {fmt::format("a model with {0}, or --cpu-model {1},+{0}", f.fault->feature,
                         f.scene.model.empty() ? "MODEL" : f.model),
             "or let the guest ask CPUID first"};
  return v;
}

MaybeVerdict not_enabled(const Facts& f) {
  if (!is_crash(f) || !f.fault || f.fault->kind != Kind::NotEnabled) return std::nullopt;
  Verdict v;
  v.cause = fmt::format("#UD: {} at {}", f.fault->text, f.address(f.rip));
  v.tries = {
      f.fault->depends_on == "CR0.EM"
          ? std::string("clear CR0.EM and set CR0.MP before the first SSE instruction")
          : fmt::format("set {} first{}", f.fault->depends_on,
                        f.insn->uses_vex ? ", and the wanted state in XCR0 with XSETBV" : ""),
      "or build with -mgeneral-regs-only"};
  return v;
}

MaybeVerdict denied_to_l2(const Facts& f) {
  if (!is_crash(f) || !f.fault || f.fault->kind != Kind::DeniedToL2) return std::nullopt;
  Verdict v;
  v.cause = fmt::format("#UD: {} at {}: {}", f.insn->text, f.address(f.rip), f.fault->text);
  v.tries = denied_tries();
  return v;
}

MaybeVerdict bad_control_value(const Facts& f) {
  if (!is_crash(f) || !f.fault || f.fault->kind != Kind::ControlBit) return std::nullopt;
  Verdict v;
  v.rule = f.fault->feature.empty() ? "bad-control-register" : "control-bit-lacks-cpuid-bit";
  v.cause = fmt::format("#GP(0) at {}: {}", f.address(f.rip), f.fault->text);
  if (!f.fault->feature.empty())
    v.tries = {fmt::format("a model with {0}, or +{0}; or let the guest ask CPUID first",
                           f.fault->feature)};
  else
    v.tries = {"the order that works for long mode: CR4.PAE, CR3, EFER.LME, CR0.PG, far jump"};
  return v;
}

MaybeVerdict bad_selector(const Facts& f) {
  if (!is_crash(f) || !f.fault || f.fault->kind != Kind::Selector) return std::nullopt;
  Verdict v;
  v.cause = fmt::format("{} at {}: {}", f.fault->name(), f.address(f.rip), f.fault->text);
  v.notes.push_back(
      fmt::format("GDTR base {:x}h, limit {:x}h", f.cpu->sregs.gdt.base, f.cpu->sregs.gdt.limit));
  v.tries = {"check LGDT's operand (limit is size - 1, base is linear) and the descriptor"};
  return v;
}

MaybeVerdict stack_fault(const Facts& f) {
  if (!is_crash(f)) return std::nullopt;
  const bool pushes = f.fault && f.fault->kind == Kind::Operand && f.insn &&
                      std::any_of(f.operands.begin(), f.operands.end(),
                                  [](const Operand& o) { return o.use.stack && o.place.failed(); });
  const Place stack = f.stack_place();
  const bool no_stack = ended_by<ending::TripleFault>(f) && !f.fault && stack.failed();
  if (!pushes && !no_stack) return std::nullopt;
  const Place& place = pushes ? *f.fault->place : stack;
  Verdict v;
  v.cause = fmt::format("the stack is not usable: RSP {:x}h, {} {:x}h fails: {}", f.cpu->regs.rsp,
                        place.access.write ? "a push to" : "a read of", place.linear,
                        place.walk.failure->text);
  v.notes.push_back(
      "no exception can be delivered on such a stack, so the first one ends in a "
      "triple fault");
  v.tries = {
      "an overflow (guard page, endless recursion), or RSP was never set; a #DF gate with an "
      "IST stack would tell"};
  return v;
}

MaybeVerdict page_fault(const Facts& f) {
  if (!is_crash(f) || !f.fault || !f.fault->place) return std::nullopt;
  if (f.fault->kind != Kind::Fetch && f.fault->kind != Kind::Operand) return std::nullopt;
  Verdict v;
  const bool fetch = f.fault->kind == Kind::Fetch;
  v.rule = f.fault->place->walk.failure->rule == "non-canonical" ? "non-canonical-address"
           : fetch                                               ? "rip-not-mapped"
                                                                 : "page-fault-without-handler";
  v.cause = fmt::format("{}: {}", vector_name(f.fault->vector), f.fault->text);
  if (!f.fault->feature.empty())
    v.tries.push_back(fmt::format("a model with {0}, or +{0}", f.fault->feature));
  else if (!f.fault->depends_on.empty())
    v.tries.push_back(fmt::format("it hangs on {}", f.fault->depends_on));
  if (fetch) {
    std::string callers;
    for (const Gva address : f.return_addresses(3))
      callers += fmt::format("{}{}", callers.empty() ? "" : ", ", f.address(address));
    if (!callers.empty()) v.notes.push_back("return addresses on the stack: " + callers);
    v.tries.push_back("is the page of RIP mapped, or was it a wrong jump?");
  } else {
    v.tries.push_back("is the address right, and is the page mapped with these rights?");
  }
  v.tries.push_back("load an IDT with #PF and #DF gates early, and the guest can say so itself");
  return v;
}

MaybeVerdict idt_unusable(const Facts& f) {
  if (!ended_by<ending::TripleFault>(f) || f.cpu == nullptr) return std::nullopt;
  const unsigned vector = f.fault ? f.fault->vector : 13;
  const GateReport gate = f.gate(vector);
  if (!gate.known || !gate.idt_missing) return std::nullopt;
  Verdict v;
  v.cause = f.fault
                ? fmt::format("{} at {} ({}), and there is no IDT to take it: {}",
                              vector_name(vector), f.address(f.rip), f.fault->text, gate.text)
                : fmt::format("an exception at {} found no IDT: {}", f.address(f.rip), gate.text);
  v.tries = {"load an IDT (LIDT: limit is size - 1, base is linear) before anything can fault",
             "external interrupts too: keep IF=0 until then"};
  return v;
}

MaybeVerdict no_handler(const Facts& f) {
  if (!is_crash(f) || !f.fault) return std::nullopt;
  Verdict v;
  v.cause = fmt::format("{} at {}: {}{}", vector_name(f.fault->vector), f.address(f.rip),
                        f.fault->text, gates_clause(f, f.fault->vector));
  v.tries = {"a handler for this vector and for #DF would let the guest report it itself"};
  return v;
}

MaybeVerdict gates_broken(const Facts& f) {
  if (!ended_by<ending::TripleFault>(f) || f.cpu == nullptr) return std::nullopt;
  for (const unsigned vector : {14u, 13u, 8u}) {
    const GateReport gate = f.gate(vector);
    if (gate.usable || !gate.known) continue;
    Verdict v;
    v.cause =
        fmt::format("an exception at {} could not be delivered: {}", f.address(f.rip), gate.text);
    v.tries = {"mend that gate; the guest can then report the exception itself"};
    return v;
  }
  return std::nullopt;
}

MaybeVerdict fault_at_cr2(const Facts& f) {
  if (!is_crash(f) || !f.cr2 || !f.cr2->failed()) return std::nullopt;
  Verdict v;
  v.cause = fmt::format("probably a page fault at CR2 = {:x}h: {}", f.cpu->sregs.cr2,
                        f.cr2->walk.failure->text);
  v.notes.push_back("CR2 may be older than the crash");
  v.tries = {"is the address right, and is the page mapped with these rights?"};
  return v;
}

constexpr Rule kFaultRules[] = {
    {"instruction-lacks-cpuid-bit", lacks_cpuid_bit},
    {"instruction-denied-to-l2", denied_to_l2},
    {"instruction-not-enabled", not_enabled},
    {"bad-control-register", bad_control_value},
    {"bad-selector", bad_selector},
    {"stack-not-usable", stack_fault},
    {"page-fault", page_fault},
    {"idt-too-small-or-unmapped", idt_unusable},
    {"exception-without-handler", no_handler},
    {"gates-not-usable", gates_broken},
    {"page-fault-at-cr2", fault_at_cr2},
};

}  // namespace

std::span<const Rule> fault_rules() { return kFaultRules; }

}  // namespace vmm
