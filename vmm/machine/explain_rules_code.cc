#include <algorithm>
#include <array>

#include "vmm/base/units.h"
#include "vmm/machine/explain_rule_parts.h"

namespace vmm {

std::string step_text(const WalkStep& step) {
  return fmt::format("{}[{}] at {:x}h = {:x}h", step.entry_name, step.index, step.entry_gpa,
                     step.entry);
}

std::string models_with_pdpe1gb(const Facts& f) {
  if (f.scene.memory_is_partial)
    return "-cpu MODEL,+pdpe1gb (QEMU), or a model that has it (Skylake-Server, EPYC)";
  const std::string bare = f.scene.model.empty() ? "MODEL" : f.model;
  if (f.scene.model.find("-pdpe1gb") != std::string::npos) return "leave out -pdpe1gb";
  return fmt::format("--cpu-model {},+pdpe1gb, or a model that has it (skylake-server, epyc)",
                     bare);
}

namespace {

using Kind = FirstFault::Kind;

// --- Page tables ---------------------------------------------------------------------------------

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
      v.tries = {models_with_pdpe1gb(f)};
    } else {
      v.notes.push_back(
          fmt::format("this host's {} cannot do 1 GiB pages at all, even with the bit forced{}",
                      kvm_name(f), is_pvm(f) ? ": shadow paging, KVM's own walker decides" : ""));
    }
    v.tries.push_back("map with 2 MiB pages (PDEs with PS) where CPUID has no pdpe1gb");
    if (!f.scene.host_has_pdpe1gb)
      v.tries.push_back(fmt::format("on a host that has 1 GiB pages: {}", models_with_pdpe1gb(f)));
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

constexpr Rule kCodeRules[] = {
    {"pdpte-ps-without-pdpe1gb", pdpte_ps},
    {"pdpte-ps-host-lacks-1gib", pdpte_ps_host},
    {"executes-in-hole", executes_in_hole},
    {"executes-in-ivt", executes_in_ivt},
    {"executes-zeroes-or-ones", zeroes_or_ones},
    {"paging-just-enabled-rip-unmapped", paging_just_enabled},
    {"breakpoint-in-emulated-code", breakpoint_in_emulated_code},
    {"mmio-with-unsupported-instruction", mmio_unsupported},
    {"emulation-unsupported-instruction", emulation_unsupported},
};

}  // namespace

std::span<const Rule> code_rules() { return kCodeRules; }

}  // namespace vmm
