// Which exception does the instruction at RIP raise? The checks in the order in which the processor
// makes them: fetch, decode, what the CPU has and has enabled, privilege, operands.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/machine/explain_facts.h"

namespace vmm {
namespace {

using Kind = FirstFault::Kind;

FirstFault from_walk(Kind kind, const Place& place, std::string doing, bool stack) {
  const WalkFailure& failure = *place.walk.failure;
  FirstFault fault;
  fault.kind = kind;
  fault.vector = failure.vector == 13 && stack ? 12 : failure.vector;
  fault.error_code = failure.error_code;
  fault.text = fmt::format("{}: {}", doing, failure.text);
  fault.feature = failure.feature;
  fault.depends_on = failure.depends_on;
  fault.place = place;
  return fault;
}

FirstFault undefined(Kind kind, std::string text) {
  FirstFault fault;
  fault.kind = kind;
  fault.vector = 6;
  fault.text = std::move(text);
  return fault;
}

FirstFault protection(Kind kind, std::string text, std::string feature = "",
                      std::string depends_on = "") {
  FirstFault fault;
  fault.kind = kind;
  fault.vector = 13;
  fault.error_code = 0;
  fault.text = std::move(text);
  fault.feature = std::move(feature);
  fault.depends_on = std::move(depends_on);
  return fault;
}

struct ControlBit {
  unsigned index;
  std::string_view name;
  CpuidBit needs;
};

// A bit of CR4 that may be set only when CPUID has the feature (SDM 2.5).
constexpr ControlBit kCr4Bits[] = {
    {3, "DE", {"de", 1, 0, CpuidReg::Edx, 2}},
    {4, "PSE", {"pse", 1, 0, CpuidReg::Edx, 3}},
    {5, "PAE", {"pae", 1, 0, CpuidReg::Edx, 6}},
    {6, "MCE", {"mce", 1, 0, CpuidReg::Edx, 7}},
    {7, "PGE", {"pge", 1, 0, CpuidReg::Edx, 13}},
    {9, "OSFXSR", {"fxsr", 1, 0, CpuidReg::Edx, 24}},
    {10, "OSXMMEXCPT", {"sse", 1, 0, CpuidReg::Edx, 25}},
    {11, "UMIP", {"umip", 7, 0, CpuidReg::Ecx, 2}},
    {12, "LA57", {"la57", 7, 0, CpuidReg::Ecx, 16}},
    {13, "VMXE", {"vmx", 1, 0, CpuidReg::Ecx, 5}},
    {14, "SMXE", {"smx", 1, 0, CpuidReg::Ecx, 6}},
    {16, "FSGSBASE", {"fsgsbase", 7, 0, CpuidReg::Ebx, 0}},
    {17, "PCIDE", {"pcid", 1, 0, CpuidReg::Ecx, 17}},
    {18, "OSXSAVE", {"xsave", 1, 0, CpuidReg::Ecx, 26}},
    {20, "SMEP", {"smep", 7, 0, CpuidReg::Ebx, 7}},
    {21, "SMAP", {"smap", 7, 0, CpuidReg::Ebx, 20}},
    {22, "PKE", {"pku", 7, 0, CpuidReg::Ecx, 3}},
    {23, "CET", {"cet-ss", 7, 0, CpuidReg::Ecx, 7}},
    {24, "PKS", {"pks", 7, 0, CpuidReg::Ecx, 31}},
};

// And of EFER (SDM 2.2.1, APM 3.1.7).
constexpr ControlBit kEferBits[] = {
    {0, "SCE", {"syscall", 0x80000001, 0, CpuidReg::Edx, 11}},
    {8, "LME", {"lm", 0x80000001, 0, CpuidReg::Edx, 29}},
    {11, "NXE", {"nx", 0x80000001, 0, CpuidReg::Edx, 20}},
    {12, "SVME", {"svm", 0x80000001, 0, CpuidReg::Ecx, 2}},
};

std::optional<FirstFault> control_bits(const Facts& f, std::uint64_t value,
                                       std::span<const ControlBit> table, std::string_view name,
                                       std::uint64_t present) {
  if (!f.cpuid_known) return std::nullopt;
  for (const ControlBit& entry : table) {
    if (!bit(value, entry.index) || bit(present, entry.index) || entry.needs.in(f.scene.cpuid))
      continue;
    return protection(
        Kind::ControlBit,
        fmt::format("{} sets {}.{} (bit {}), but {} lacks {} ({} = 0)", f.insn->text, name,
                    entry.name, entry.index, f.model, entry.needs.name, entry.needs.place()),
        std::string(entry.needs.name), entry.needs.place());
  }
  return std::nullopt;
}

// MOV to CRn and WRMSR of EFER with a value that the CPU refuses.
std::optional<FirstFault> control_fault(const Facts& f) {
  const kvm_sregs& s = f.cpu->sregs;
  const kvm_regs& r = f.cpu->regs;
  const Instruction& i = *f.insn;
  const auto refuse = [&](std::string_view why) {
    return protection(Kind::ControlBit, fmt::format("{} ({:x}h): {}", i.text, i.source, why));
  };
  if (i.mnemonic == "wrmsr" && (r.rcx & 0xffffffff) == 0xc0000080) {
    const std::uint64_t value = (r.rdx & 0xffffffff) << 32 | (r.rax & 0xffffffff);
    if ((s.cr0 & spec::CR0_PG) != 0 && ((value ^ s.efer) & spec::EFER_LME) != 0)
      return protection(Kind::ControlBit, "WRMSR changes EFER.LME while CR0.PG is 1");
    return control_bits(f, value, kEferBits, "EFER", s.efer);
  }
  if (!i.loads_cr) return std::nullopt;
  const std::uint64_t value = i.source;
  if (*i.loads_cr == 0) {
    const bool paging = (value & spec::CR0_PG) != 0;
    if (value >> 32 != 0) return refuse("bits 63:32 of CR0 are reserved");
    if (paging && (value & spec::CR0_PE) == 0) return refuse("CR0.PG needs CR0.PE");
    if ((value & spec::CR0_NW) != 0 && (value & spec::CR0_CD) == 0)
      return refuse("CR0.NW needs CR0.CD");
    const bool enters = paging && (s.cr0 & spec::CR0_PG) == 0 && (s.efer & spec::EFER_LME) != 0;
    if (enters && (s.cr4 & spec::CR4_PAE) == 0) return refuse("EFER.LME is 1 and CR4.PAE is 0");
    if (enters && s.cs.l != 0) return refuse("EFER.LME is 1 and CS.L is 1 already");
    if (!paging && f.mode == CpuMode::Long64) return refuse("paging cannot go off in 64-bit mode");
  }
  if (*i.loads_cr == 3 && (s.efer & spec::EFER_LMA) != 0 &&
      (value & ~low_mask(f.paging.features.phys_bits) & ~(1ull << 63)) != 0)
    return refuse(fmt::format("MAXPHYADDR is {}", f.paging.features.phys_bits));
  if (*i.loads_cr == 4) {
    if ((s.efer & spec::EFER_LMA) != 0 && (value & spec::CR4_PAE) == 0)
      return refuse("CR4.PAE cannot go off in long mode");
    return control_bits(f, value, kCr4Bits, "CR4", 0);
  }
  return std::nullopt;
}

// #UD in L2 for want of a control of its VMCS.
std::optional<FirstFault> denied_fault(const Facts& f) {
  const CpuidBit* needs = f.insn->needs;
  for (const NestedFinding& finding : f.nested) {
    if (needs == nullptr || finding.vcpu != f.scene.vcpu || !finding.state.guest_mode) continue;
    for (const nested::DeniedInstruction& denied : finding.denied)
      if (denied.feature == needs->name)
        return undefined(Kind::DeniedToL2, denied_text(f.scene, denied));
  }
  return std::nullopt;
}

// #UD for what the model lacks or the guest has not switched on.
std::optional<FirstFault> undefined_fault(const Facts& f) {
  const Instruction& i = *f.insn;
  const kvm_sregs& s = f.cpu->sregs;
  if (i.is_ud) return undefined(Kind::Undefined, i.text + " raises it on purpose");
  if (f.cpuid_known && i.needs != nullptr && !i.needs->in(f.scene.cpuid)) {
    FirstFault fault = undefined(
        Kind::LacksCpuid,
        fmt::format("{}: {} lacks {} ({} = 0)", i.text, f.model, i.needs->name, i.needs->place()));
    fault.feature = i.needs->name;
    fault.depends_on = i.needs->place();
    return fault;
  }
  constexpr std::uint64_t kCr0Em = 1u << 2;
  const auto off = [&](std::string_view what) {
    FirstFault fault = undefined(Kind::NotEnabled, fmt::format("{} while {}", i.text, what));
    fault.depends_on = what.substr(0, what.find(' '));
    return fault;
  };
  if (i.uses_sse && (s.cr0 & kCr0Em) != 0) return off("CR0.EM is 1");
  if (i.uses_sse && (s.cr4 & spec::CR4_OSFXSR) == 0) return off("CR4.OSFXSR is 0");
  if (i.uses_vex && (s.cr4 & spec::CR4_OSXSAVE) == 0) return off("CR4.OSXSAVE is 0");
  if (i.mnemonic.starts_with("vm") && i.needs != nullptr && i.needs->name == "vmx" &&
      i.mnemonic != "vmcall" && (s.cr4 & spec::CR4_VMXE) == 0)
    return off("CR4.VMXE is 0");
  if (i.needs != nullptr && i.needs->name == "svm" && (s.efer & spec::EFER_SVME) == 0)
    return off("EFER.SVME is 0");
  if ((i.mnemonic == "xsetbv" || i.mnemonic.starts_with("xsave") ||
       i.mnemonic.starts_with("xrstor")) &&
      (s.cr4 & spec::CR4_OSXSAVE) == 0)
    return off("CR4.OSXSAVE is 0");
  return std::nullopt;
}

std::optional<FirstFault> fetch_fault(const Facts& f) {
  if (f.rip_place.failed())
    return from_walk(Kind::Fetch, f.rip_place, fmt::format("the fetch at {}", f.address(f.rip)),
                     false);
  if (f.insn || !instruction_is_cut(f.code, f.mode)) return std::nullopt;
  // The instruction runs into the next page.
  const Place next = f.place_of(f.rip + f.code.size(), {.fetch = true, .user = f.cpl == 3});
  if (!next.failed()) return std::nullopt;
  return from_walk(Kind::Fetch, next,
                   fmt::format("the instruction at {} runs into the next page", f.address(f.rip)),
                   false);
}

}  // namespace

std::optional<FirstFault> infer_fault(const Facts& f) {
  if (auto fault = fetch_fault(f)) return fault;
  if (f.code.empty()) return std::nullopt;
  if (!f.insn) {
    if (instruction_is_cut(f.code, f.mode)) return std::nullopt;
    return undefined(Kind::Undefined,
                     fmt::format("the bytes at {} are no instruction", f.address(f.rip)));
  }
  const Instruction& i = *f.insn;
  if (auto fault = undefined_fault(f)) return fault;
  if (auto fault = denied_fault(f)) return fault;
  if (f.cpl == 3 && i.ring0_only)
    return protection(Kind::Privilege, i.text + " is not allowed at CPL 3");
  if (i.interrupt) {
    FirstFault fault;
    fault.kind = Kind::SoftwareInt;
    fault.vector = *i.interrupt;
    fault.text = i.text + " calls it";
    return fault;
  }
  if (auto fault = control_fault(f)) return fault;
  for (const Operand& operand : f.operands) {
    if (!operand.place.failed()) continue;
    return from_walk(
        Kind::Operand, operand.place,
        fmt::format("{} {} {}", i.text, operand.use.write ? "writes" : "reads",
                    operand.use.stack ? fmt::format("the stack at {:x}h", operand.use.linear)
                                      : f.address(operand.use.linear)),
        operand.use.stack);
  }
  if (i.loads_selector)
    if (auto fault = f.selector_fault(*i.loads_selector, i.selector_target)) return fault;
  if (i.pops_selector && !f.operands.empty()) {
    const auto raw =
        f.read_linear(f.operands.front().use.linear + *i.pops_selector, 2, {.user = f.cpl == 3});
    if (raw.size() == 2)
      if (auto fault = f.selector_fault(load<std::uint16_t>(raw), "cs")) return fault;
  }
  if (i.divides_by_zero) {
    FirstFault fault;
    fault.kind = Kind::Divide;
    fault.vector = 0;
    fault.text = i.text + " divides by zero";
    return fault;
  }
  const auto& reported = f.cpu->events.exception;
  if ((reported.injected != 0 || reported.pending != 0) && reported.nr != 8) {
    FirstFault fault;
    fault.vector = reported.nr;
    if (reported.has_error_code != 0) fault.error_code = reported.error_code;
    fault.text = "KVM was about to deliver it";
    return fault;
  }
  return std::nullopt;
}

}  // namespace vmm
