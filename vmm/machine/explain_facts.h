// What follows from a scene before any rule is asked: where RIP leads, which instruction is there
// and what it touches, which exception it raises, whether the IDT can take one. Values only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/machine/disassemble.h"
#include "vmm/machine/explain.h"
#include "vmm/machine/explain_exit.h"
#include "vmm/machine/explain_nested.h"

namespace vmm {

// Whether an address is RAM; a pasted dump often cannot say.
enum class Backing { Ram, Hole, Unknown };

// An address that was walked, with where it leads.
struct Place {
  Gva linear = 0;
  PageAccess access;
  Walk walk;
  Backing backing = Backing::Unknown;  // of walk.gpa
  bool known = false;                  // false: the tables are not at hand, `walk` says nothing

  bool failed() const { return known && walk.failure.has_value(); }
  std::optional<Gpa> gpa() const { return known ? walk.gpa : std::nullopt; }
};

// Memory that the instruction at RIP touches.
struct Operand {
  MemoryUse use;
  Place place;
};

// The exception that the instruction at RIP raises, inferred from registers and memory.
struct FirstFault {
  enum class Kind {
    Fetch,        // the walk of RIP fails
    Operand,      // the walk of a memory operand fails
    LacksCpuid,   // #UD: the model lacks the instruction
    NotEnabled,   // #UD: CR4.OSFXSR, CR4.OSXSAVE
    DeniedToL2,   // #UD: a control of the hypervisor's VMCS is 0
    Undefined,    // UD2, or bytes that are no instruction
    SoftwareInt,  // INT n, INT3
    Privilege,    // #GP in CPL 3
    Selector,     // a bad selector
    ControlBit,   // #GP: MOV to CRn or WRMSR with what the CPU lacks
    Divide,       // #DE
    Reported,     // KVM_GET_VCPU_EVENTS says so
  };
  Kind kind = Kind::Reported;
  unsigned vector = 0;
  std::optional<std::uint32_t> error_code;
  std::string text;     // what is wrong, a clause
  std::string feature;  // the CPUID feature that is missing; empty: none
  std::string depends_on;
  std::optional<Place> place;  // the walk that failed

  std::string name() const;  // "#PF (error code 9h, P|RSVD)"
};

// One gate of the IDT, from IDTR to the handler's first byte and the stack that it would use.
struct GateReport {
  unsigned vector = 0;
  bool usable = true;
  bool idt_missing = false;  // IDTR's limit or base is at fault, not the one gate
  bool known = true;         // false: the dump does not hold the IDT
  std::string text;          // "gate 14 (#PF): ..."
};

struct Facts {
  explicit Facts(const CrashScene& s) : Facts(s, nested_findings(s)) {}
  // With what nested_findings() gives, or nothing where guest hypervisors do not matter.
  Facts(const CrashScene& s, std::vector<NestedFinding> findings);

  const CrashScene& scene;
  const CpuState* cpu = nullptr;  // of the vCPU that died; null: unknown
  bool cpuid_known = false;
  PagingContext paging;
  CpuMode mode = CpuMode::Real;
  unsigned cpl = 0;
  std::string model;  // "haswell@4" or "this CPU model"
  ErrorWords error;   // of KVM_EXIT_INTERNAL_ERROR
  Gva rip = 0;        // linear
  Place rip_place;
  std::vector<std::uint8_t> code;  // at RIP, up to 15 bytes
  std::optional<Instruction> insn;
  std::vector<Operand> operands;
  std::optional<Place> cr2;
  std::optional<FirstFault> fault;
  std::vector<NestedFinding> nested;  // guest hypervisors

  // False when SVM has reset the vCPU: what `cpu` holds is then of the last exit before, or of
  // reset.
  bool at_fault() const { return scene.registers_trusted; }
  // Registers as RESET leaves them.
  bool is_reset_state() const;
  bool holds_internal_error() const;
  // Walks and looks where it leads.
  Place place_of(Gva linear, const PageAccess& access) const;
  Backing backing_of(Gpa gpa) const;
  // Memory by linear address as the processor itself reads it, up to where it ends.
  std::vector<std::uint8_t> read_linear(Gva linear, std::size_t size,
                                        const PageAccess& access) const;
  // "10012fh (start+1fh)".
  std::string address(Gva linear) const;
  // The bytes at RIP, also when its walk fails: then those at the same physical address, if any.
  std::vector<std::uint8_t> shown_code() const;
  // Values on the stack that stand behind a CALL, nearest first, at most `count`.
  std::vector<Gva> return_addresses(std::size_t count) const;
  // The walks that matter, RIP's first.
  std::vector<const Place*> places() const;
  // What is wrong with loading `selector` into `target`; nothing when it is fine or unknown.
  std::optional<FirstFault> selector_fault(std::uint16_t selector, std::string_view target) const;
  GateReport gate(unsigned vector) const;
  // Whether the stack can take one more push.
  Place stack_place() const;
};

// CS.base + RIP, as the mode has it.
Gva linear_rip(const CpuState& cpu);
// "the VGA window (A0000h-BFFFFh)", "the local APIC's page"; "beyond RAM" for what has no name.
std::string hole_name(Gpa gpa);
// The first exception that follows from the facts so far (explain_fault.cc).
std::optional<FirstFault> infer_fault(const Facts& facts);

}  // namespace vmm
