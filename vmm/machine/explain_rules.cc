#include "vmm/machine/explain_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/core/uapi.h"

namespace vmm {
namespace {

using Kind = FirstFault::Kind;
using MaybeVerdict = std::optional<Verdict>;

template <typename Ending>
bool ended_by(const Facts& f) {
  return std::holds_alternative<Ending>(f.scene.outcome);
}
bool suberror_is(const Facts& f, std::uint32_t suberror) {
  const auto* failure = std::get_if<ending::InternalFailure>(&f.scene.outcome);
  return failure != nullptr && failure->error.suberror == suberror;
}
// Endings that the instruction at RIP can have caused.
bool is_crash(const Facts& f) {
  return f.cpu != nullptr &&
         (ended_by<ending::TripleFault>(f) || suberror_is(f, KVM_INTERNAL_ERROR_EMULATION));
}
bool is_pvm(const Facts& f) { return f.scene.kvm_backend == "pvm"; }

std::string kvm_name(const Facts& f) {
  return f.scene.kvm_backend.empty() ? "KVM" : fmt::format("KVM ({})", f.scene.kvm_backend);
}

std::string step_text(const WalkStep& step) {
  return fmt::format("{}[{}] at {:x}h = {:x}h", step.entry_name, step.index, step.entry_gpa,
                     step.entry);
}

// A sentence on which gates cannot be used, for a triple fault; empty when all can or none is
// known.
std::string gates_clause(const Facts& f, unsigned vector) {
  if (!ended_by<ending::TripleFault>(f)) return "";
  const GateReport gate = f.gate(vector);
  if (gate.usable || !gate.known) return "";
  return fmt::format(", and the IDT cannot take it: {}", gate.text);
}

// --- Endings other than a fault ------------------------------------------------------------------

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

// --- Page tables ---------------------------------------------------------------------------------

std::string other_models(const Facts& f) {
  if (f.scene.memory_is_partial)
    return "-cpu MODEL,+pdpe1gb (QEMU), or a model that has it (Skylake-Server, EPYC)";
  const std::string bare = f.scene.model.empty() ? "MODEL" : f.model;
  if (bare.find("-pdpe1gb") != std::string::npos) return "leave out -pdpe1gb";
  return fmt::format("--cpu-model {},+pdpe1gb, or a model that has it (skylake-server, epyc)",
                     bare);
}

MaybeVerdict pdpte_ps(const Facts& f) {
  if (!is_crash(f)) return std::nullopt;
  for (const Place* place : f.places()) {
    if (!place->failed() || place->walk.failure->rule != "reserved-ps-pdpte") continue;
    Verdict v;
    v.cause = fmt::format(
        "{} has PS set (a 1 GiB page), but {} lacks pdpe1gb (CPUID 80000001h.EDX[26] = 0)",
        step_text(place->walk.steps.back()), f.model);
    v.notes.push_back(fmt::format(
        "without pdpe1gb that bit (7) is reserved: any use of {:x}h is {} with RSVD set",
        place->linear, vector_name(place->walk.failure->vector)));
    if (f.scene.paging_features)
      v.notes.push_back("known from the trace: KVM's own walker answered P|RSVD to that entry");
    if (f.scene.host_has_pdpe1gb) {
      v.tries = {other_models(f)};
    } else {
      v.notes.push_back(
          fmt::format("this host's {} cannot do 1 GiB pages at all, even with the bit forced{}",
                      kvm_name(f), is_pvm(f) ? ": shadow paging, KVM's own walker decides" : ""));
    }
    v.tries.push_back("map with 2 MiB pages (PDEs with PS) where CPUID has no pdpe1gb");
    if (!f.scene.host_has_pdpe1gb)
      v.tries.push_back(fmt::format("on a host that has 1 GiB pages: {}", other_models(f)));
    return v;
  }
  return std::nullopt;
}

MaybeVerdict pdpte_ps_host(const Facts& f) {
  if (!is_crash(f) || f.scene.host_has_pdpe1gb) return std::nullopt;
  for (const Place* place : f.places()) {
    if (!place->known || place->walk.page_size != 1_GiB || place->walk.mode == PagingMode::Bits32)
      continue;
    Verdict v;
    v.layer = "host";
    v.cause = fmt::format("{} maps a 1 GiB page, which {} allows and this host's {} cannot do",
                          step_text(place->walk.steps.back()), f.model, kvm_name(f));
    v.notes.push_back(fmt::format(
        "CPUID 80000001h.EDX[26] (pdpe1gb) is 1 for the guest, and KVM_GET_SUPPORTED_CPUID does "
        "not offer it{}",
        is_pvm(f) ? ": shadow paging, KVM's own walker calls PS reserved" : ""));
    v.tries = {"map with 2 MiB pages (PDEs with PS), or run on a host with 1 GiB pages",
               "without the forced bit (--cpu-policy strict) the run is refused before it starts"};
    return v;
  }
  return std::nullopt;
}

// --- Where RIP is --------------------------------------------------------------------------------

// What to look at when control flow was lost.
void add_lost_control(const Facts& f, Verdict& v) {
  if (f.scene.vcpu != 0 || !f.scene.vcpu_known)
    v.tries.push_back(
        "an application processor: its SIPI vector, the trampoline's copy below 1 MiB, its stack "
        "and "
        "its GDT");
  v.tries.push_back(
      "a call through a pointer: was it relocated, is the calling convention the same on both "
      "sides?");
  if (v.tries.size() == 1)
    v.tries.push_back("a return: was the stack overwritten, or is RSP where it should be?");
}

MaybeVerdict executes_in_hole(const Facts& f) {
  if (!is_crash(f)) return std::nullopt;
  Verdict v;
  const std::string cpu_name = fmt::format("vCPU {}", f.scene.vcpu);
  const Gpa* gpa = nullptr;
  if (const auto& walked = f.rip_place.walk.gpa; f.rip_place.known && walked) gpa = &*walked;
  const bool vga_by_address = f.scene.memory_is_partial && f.rip >= kVgaWindow &&
                              f.rip < kVgaWindow + kVgaWindowSize && !f.rip_place.failed();
  if (gpa != nullptr && f.rip_place.backing == Backing::Hole) {
    v.cause = fmt::format(
        "{} executes at {}: {}, not RAM", cpu_name,
        *gpa == f.rip ? f.address(f.rip) : fmt::format("{} (GPA {:x}h)", f.address(f.rip), *gpa),
        hole_name(*gpa));
  } else if (vga_by_address) {
    v.cause =
        fmt::format("executes in the VGA hole: RIP {:x}h is in A0000h-BFFFFh, not RAM", f.rip);
  } else if (f.error.fetch && !f.error.vectoring) {
    v.cause = fmt::format(
        "{} executes at {}, where the guest physical address is {}", cpu_name, f.address(f.rip),
        f.error.gpa ? fmt::format("{:x}h: {}", *f.error.gpa, hole_name(*f.error.gpa)) : "not RAM");
  } else {
    return std::nullopt;
  }
  const bool ones = !f.code.empty() && std::all_of(f.code.begin(), f.code.end(),
                                                   [](std::uint8_t b) { return b == 0xff; });
  if (ones)
    v.notes.push_back("the bytes ff at RIP are what memory with nothing behind it reads as");
  v.notes.push_back("control flow was lost before this: a wrong jump, call, return or stack");
  const kvm_sregs& s = f.cpu->sregs;
  const bool as_after_init = s.tr.selector == 0 && s.ldt.selector == 0 && s.tr.limit == 0xffff;
  if (!f.scene.vcpu_known && f.mode == CpuMode::Long64 && as_after_init)
    v.notes.push_back(
        "the dump does not name the vCPU; of several it is probably an application processor (AP): "
        "long mode, with TR and LDTR still as INIT leaves them");
  std::string callers;
  for (const Gva address : f.return_addresses(3))
    callers += fmt::format("{}{}", callers.empty() ? "" : ", ", f.address(address));
  if (!callers.empty()) v.notes.push_back("return addresses on the stack: " + callers);
  add_lost_control(f, v);
  return v;
}

MaybeVerdict executes_in_ivt(const Facts& f) {
  // Vectors up to 3FFh, the BIOS data area up to 4FFh: never code.
  if (!is_crash(f) || f.mode != CpuMode::Real || f.rip >= 0x500) return std::nullopt;
  Verdict v;
  v.cause = fmt::format(
      "vCPU {} executes at {:x}h in real mode, in the interrupt vector table: control flow was "
      "lost",
      f.scene.vcpu, f.rip);
  v.notes.push_back("an interrupt or exception whose vector is 0000:0000 leads here too");
  add_lost_control(f, v);
  return v;
}

MaybeVerdict zeroes_or_ones(const Facts& f) {
  if (!is_crash(f) || f.code.size() < 8 || f.rip_place.failed()) return std::nullopt;
  const std::uint8_t first = f.code.front();
  if ((first != 0 && first != 0xff) ||
      std::any_of(f.code.begin(), f.code.end(), [first](std::uint8_t b) { return b != first; }))
    return std::nullopt;
  Verdict v;
  v.cause = fmt::format("executes {} memory at {}: a jump to where no code is",
                        first == 0 ? "zero-filled" : "ff-filled", f.address(f.rip));
  if (first == 0)
    v.notes.push_back("bytes 00 00 run as ADD [rAX], AL: it may have come a long way like this");
  std::string callers;
  for (const Gva address : f.return_addresses(3))
    callers += fmt::format("{}{}", callers.empty() ? "" : ", ", f.address(address));
  if (!callers.empty()) v.notes.push_back("return addresses on the stack: " + callers);
  v.tries = {
      "was the code loaded or copied there (loader, .bss, relocation), and does CR3 map the "
      "page that was meant?"};
  return v;
}

// The instruction before RIP switched paging or the tables, or the registers look like it.
std::string paging_switch_before(const Facts& f) {
  if ((f.cpu->sregs.cr0 & spec::CR0_PG) == 0) return "";
  if (f.scene.memory != nullptr && f.rip >= 3) {
    // The address space is new, so the bytes are looked for where the old one most likely was.
    std::array<std::uint8_t, 3> before{};
    if (f.scene.memory->read(f.rip - 3, before) && before[0] == 0x0f && before[1] == 0x22) {
      if (before[2] >= 0xc0 && before[2] <= 0xc7) return "CR0.PG was just set";
      if (before[2] >= 0xd8 && before[2] <= 0xdf) return "CR3 was just loaded";
    }
  }
  if (f.mode == CpuMode::Long64 || (f.cpu->regs.rax & 0xffffffff) != f.cpu->sregs.cr0) return "";
  if ((f.cpu->regs.rcx & 0xffffffff) == 0xc0000080)
    return "long mode was just switched on (EAX = CR0, ECX = c0000080h, the EFER)";
  return "CR0.PG was just set (EAX = CR0)";
}

MaybeVerdict paging_just_enabled(const Facts& f) {
  if (!is_crash(f)) return std::nullopt;
  const bool fetch_fails = f.fault && f.fault->kind == Kind::Fetch;
  const bool unseen = !f.rip_place.known && f.holds_internal_error() && f.code.empty() && !f.insn;
  if (!fetch_fails && !unseen) return std::nullopt;
  const std::string when = paging_switch_before(f);
  if (when.empty()) return std::nullopt;
  Verdict v;
  if (fetch_fails) {
    v.cause = fmt::format("{}, and the next instruction ({}) is not mapped: {}", when,
                          f.address(f.rip), f.fault->place->walk.failure->text);
    v.tries = {
        "map the page of this code to itself in the new tables, as the switch runs on in it"};
    if (!f.fault->feature.empty())
      v.tries.push_back(fmt::format("a model with {}", f.fault->feature));
    return v;
  }
  v.cause = fmt::format("{}, and the fetch of the next instruction at {:x}h fails in the page walk",
                        when, f.rip);
  v.notes = {
      "RIP lies in low memory that the new tables should map to itself; KVM could not fetch "
      "there and gave up"};
  v.tries = {
      "first suspect: 1 GiB pages (PDPTEs with PS) under a CPU model without pdpe1gb",
      "else: an entry that is not present, a table address, NX without EFER.NXE, bits beyond "
      "MAXPHYADDR",
      "trace-cmd record -e kvm -e kvmmmu, pasted below this dump, names the entry"};
  return v;
}

// --- What the emulator cannot do -----------------------------------------------------------------

MaybeVerdict breakpoint_in_emulated_code(const Facts& f) {
  if (!is_crash(f) || !f.holds_internal_error() || !f.insn || !f.insn->interrupt ||
      f.insn->mnemonic != "int3")
    return std::nullopt;
  Verdict v;
  v.layer = is_pvm(f) ? "host" : "guest";
  v.cause =
      fmt::format("INT3 at {} in code that KVM's instruction emulator runs, which it cannot do",
                  f.address(f.rip));
  v.tries = {"a hardware breakpoint instead of INT3 (hbreak in gdb), or a host with VT-x or SVM"};
  return v;
}

const Operand* mmio_operand(const Facts& f) {
  for (const Operand& operand : f.operands)
    if (operand.place.gpa() && operand.place.backing == Backing::Hole) return &operand;
  return nullptr;
}

MaybeVerdict mmio_unsupported(const Facts& f) {
  if (!is_crash(f) || !f.holds_internal_error() || !f.insn) return std::nullopt;
  const Operand* operand = mmio_operand(f);
  const bool by_exit = operand == nullptr && !f.error.fetch &&
                       (f.error.misconfig_or_mmio || (f.error.gpa && !f.operands.empty()));
  if (operand == nullptr && !by_exit) return std::nullopt;
  const std::optional<Gpa> gpa = operand != nullptr ? operand->place.gpa() : f.error.gpa;
  Verdict v;
  v.cause = fmt::format("{} touches MMIO{}, and KVM cannot emulate this instruction", f.insn->text,
                        gpa ? fmt::format(" at GPA {:x}h ({})", *gpa, hole_name(*gpa)) : "");
  v.notes.push_back(
      "an access to MMIO is done by KVM's emulator, which knows the plain integer "
      "instructions and few others");
  v.tries = {
      "use MOV of 1, 2, 4 or 8 bytes for device registers (volatile, no memcpy, no vectors)"};
  return v;
}

MaybeVerdict emulation_unsupported(const Facts& f) {
  if (!is_crash(f) || !f.holds_internal_error() || !f.insn) return std::nullopt;
  if (f.rip_place.failed()) return std::nullopt;
  Verdict v;
  if (is_pvm(f)) {
    v.layer = "host";
    v.cause = fmt::format("{} at {}: KVM's instruction emulator, which runs ring 0 here, lacks it",
                          f.insn->text, f.address(f.rip));
    v.notes.push_back(
        "this host's KVM (kvm_pvm) has neither VT-x nor SVM: real mode and ring 0 run "
        "in the emulator");
    if (f.insn->uses_sse || f.insn->uses_vex)
      v.tries.push_back("build the guest with -mgeneral-regs-only (or -mno-sse -mno-avx)");
    v.tries.push_back("or run it on a host with VT-x or SVM");
  } else {
    v.cause = fmt::format("{} at {}: KVM had to emulate this instruction and cannot", f.insn->text,
                          f.address(f.rip));
    v.notes.push_back(
        "KVM emulates where hardware cannot go on: MMIO, real mode without "
        "unrestricted guest, shadowed page tables");
    v.tries.push_back(
        "if the operand is a device: use MOV; if it writes to a live page table: map "
        "it with MOV-sized writes");
  }
  if (f.cpuid_known && f.insn->needs != nullptr && !f.insn->needs->in(f.scene.cpuid))
    v.notes.push_back(fmt::format("{} also lacks {} ({} = 0)", f.model, f.insn->needs->name,
                                  f.insn->needs->place()));
  return v;
}

// --- Exceptions that nobody could take -----------------------------------------------------------

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

MaybeVerdict unexplained(const Facts& f) {
  Verdict v;
  v.cause = headline(f.scene.outcome);
  v.layer = std::string(layer_name(f.scene.outcome));
  if (wants_explanation(f.scene.outcome)) {
    v.notes.push_back("no rule fits: what is known stands below");
    v.tries = {"a trace of the exits before it (--trace) or a debugger (--gdb)"};
  }
  return v;
}

constexpr Rule kRules[] = {
    {"registers-reset-by-svm", registers_reset},
    {"entry-failure", entry_failure},
    {"waiting-for-sipi", waiting_for_sipi},
    {"halted-with-interrupts-off", halted},
    {"out-of-time", out_of_time},
    {"unexpected-exit-reason", unexpected_exit},
    {"event-delivery-hits-hole", delivery_hits_hole},
    {"exception-during-delivery", exception_during_delivery},
    {"pdpte-ps-without-pdpe1gb", pdpte_ps},
    {"pdpte-ps-host-lacks-1gib", pdpte_ps_host},
    {"executes-in-hole", executes_in_hole},
    {"executes-in-ivt", executes_in_ivt},
    {"executes-zeroes-or-ones", zeroes_or_ones},
    {"paging-just-enabled-rip-unmapped", paging_just_enabled},
    {"breakpoint-in-emulated-code", breakpoint_in_emulated_code},
    {"mmio-with-unsupported-instruction", mmio_unsupported},
    {"emulation-unsupported-instruction", emulation_unsupported},
    {"instruction-lacks-cpuid-bit", lacks_cpuid_bit},
    {"instruction-not-enabled", not_enabled},
    {"bad-control-register", bad_control_value},
    {"bad-selector", bad_selector},
    {"stack-not-usable", stack_fault},
    {"page-fault", page_fault},
    {"idt-too-small-or-unmapped", idt_unusable},
    {"exception-without-handler", no_handler},
    {"gates-not-usable", gates_broken},
    {"page-fault-at-cr2", fault_at_cr2},
    {"unexplained", unexplained},
};

}  // namespace

std::span<const Rule> all_rules() { return kRules; }

Verdict judge(const Facts& facts) {
  for (const Rule& rule : kRules) {
    if (auto verdict = rule.fits(facts)) {
      if (verdict->rule.empty()) verdict->rule = rule.id;
      return std::move(*verdict);
    }
  }
  return {};
}

Gva place_of_halt(const Facts& facts, const CpuState& cpu) {
  const Gva rip = linear_rip(cpu);
  if (facts.scene.memory == nullptr || rip == 0) return rip;
  constexpr std::uint8_t kHlt = 0xf4;
  const Walk walk =
      walk_page(*facts.scene.memory, PagingContext::from(cpu, facts.paging.features), rip - 1, {});
  if (!walk.gpa) return rip;
  return facts.scene.memory->read_value<std::uint8_t>(*walk.gpa) == kHlt ? rip - 1 : rip;
}

std::vector<std::string> vcpu_lines(const Facts& facts, std::size_t count) {
  std::vector<std::string> lines;
  const auto& vcpus = facts.scene.vcpus;
  for (std::size_t i = 0; i < vcpus.size() && i < count; ++i) {
    const CpuState& cpu = vcpus[i];
    const bool interrupts = (cpu.regs.rflags & spec::RFLAGS_IF) != 0;
    std::string state;
    switch (cpu.mp_state) {
      case KVM_MP_STATE_UNINITIALIZED:
      case KVM_MP_STATE_INIT_RECEIVED:
        lines.push_back(fmt::format("vCPU {}: waits for a SIPI (never started, or INIT)", i));
        continue;
      case KVM_MP_STATE_HALTED:
        state = "halted";
        break;
      default:
        state =
            std::holds_alternative<ending::HaltedForever>(facts.scene.outcome) ? "halted" : "runs";
    }
    const Gva at = state == "halted" ? place_of_halt(facts, cpu) : linear_rip(cpu);
    lines.push_back(
        fmt::format("vCPU {}: {} at {}, IF={}", i, state, facts.address(at), interrupts ? 1 : 0));
  }
  if (vcpus.size() > count) lines.push_back(fmt::format("and {} more", vcpus.size() - count));
  return lines;
}

}  // namespace vmm
