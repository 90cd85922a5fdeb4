#include "vmm/nested/vmx_exits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "vmm/base/bytes.h"

namespace vmm::nested {
namespace {

struct NamedReason {
  std::uint16_t value;
  std::string_view name;
};

// SDM vol. 3D appendix C, lowest first.
constexpr NamedReason kReasons[] = {
    {0, "exception or NMI"},
    {1, "external interrupt"},
    {2, "triple fault"},
    {3, "INIT"},
    {4, "SIPI"},
    {5, "I/O SMI"},
    {6, "other SMI"},
    {7, "interrupt window"},
    {8, "NMI window"},
    {9, "task switch"},
    {10, "CPUID"},
    {11, "GETSEC"},
    {12, "HLT"},
    {13, "INVD"},
    {14, "INVLPG"},
    {15, "RDPMC"},
    {16, "RDTSC"},
    {17, "RSM"},
    {18, "VMCALL"},
    {19, "VMCLEAR"},
    {20, "VMLAUNCH"},
    {21, "VMPTRLD"},
    {22, "VMPTRST"},
    {23, "VMREAD"},
    {24, "VMRESUME"},
    {25, "VMWRITE"},
    {26, "VMXOFF"},
    {27, "VMXON"},
    {28, "control register"},
    {29, "debug register"},
    {30, "port I/O"},
    {31, "RDMSR"},
    {32, "WRMSR"},
    {33, "invalid guest state"},
    {34, "MSR loading"},
    {36, "MWAIT"},
    {37, "monitor trap flag"},
    {39, "MONITOR"},
    {40, "PAUSE"},
    {41, "machine check on entry"},
    {43, "TPR below threshold"},
    {44, "APIC access"},
    {45, "virtualized EOI"},
    {46, "GDTR or IDTR"},
    {47, "LDTR or TR"},
    {48, "EPT violation"},
    {49, "EPT misconfiguration"},
    {50, "INVEPT"},
    {51, "RDTSCP"},
    {52, "preemption timer"},
    {53, "INVVPID"},
    {54, "WBINVD"},
    {55, "XSETBV"},
    {56, "APIC write"},
    {57, "RDRAND"},
    {58, "INVPCID"},
    {59, "VMFUNC"},
    {60, "ENCLS"},
    {61, "RDSEED"},
    {62, "PML log full"},
    {63, "XSAVES"},
    {64, "XRSTORS"},
    {65, "PCONFIG"},
    {66, "sub-page write permission"},
    {67, "UMWAIT"},
    {68, "TPAUSE"},
    {69, "LOADIWKEY"},
    {70, "ENCLV"},
    {72, "ENQCMD PASID translation"},
    {73, "ENQCMDS PASID translation"},
    {74, "bus lock"},
    {75, "notify window"},
    {76, "SEAMCALL"},
    {77, "TDCALL"},
};

constexpr std::array<std::string_view, 32> kExceptions = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "",    "#TS",
    "#NP", "#SS", "#GP", "#PF", "",    "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};

constexpr std::string_view kInstructionErrors[] = {
    "",
    "VMCALL executed in VMX root operation",
    "VMCLEAR with invalid physical address",
    "VMCLEAR with VMXON pointer",
    "VMLAUNCH with non-clear VMCS",
    "VMRESUME with non-launched VMCS",
    "VMRESUME after VMXOFF",
    "VM entry with invalid control field(s)",
    "VM entry with invalid host-state field(s)",
    "VMPTRLD with invalid physical address",
    "VMPTRLD with VMXON pointer",
    "VMPTRLD with incorrect VMCS revision identifier",
    "VMREAD or VMWRITE of unsupported VMCS component",
    "VMWRITE to read-only VMCS component",
    "",
    "VMXON executed in VMX root operation",
    "VM entry with invalid executive-VMCS pointer",
    "VM entry with non-launched executive VMCS",
    "VM entry with executive-VMCS pointer not VMXON pointer",
    "VMCALL with non-clear VMCS",
    "VMCALL with invalid VM-exit control fields",
    "",
    "VMCALL with incorrect MSEG revision identifier",
    "VMXOFF under dual-monitor treatment of SMIs and SMM",
    "VMCALL with invalid SMM-monitor features",
    "VM entry with invalid VM-execution control fields in executive VMCS",
    "VM entry with events blocked by MOV SS",
    "",
    "invalid operand to INVEPT or INVVPID",
};

// The general registers in the order of instruction encodings.
constexpr std::string_view kRegisters[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                           "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};

std::string control_register_text(std::uint64_t q) {
  const std::uint64_t number = bits(q, 3, 0);
  const std::string_view other = kRegisters[bits(q, 11, 8)];
  switch (bits(q, 5, 4)) {
    case 0:
      return fmt::format("MOV CR{}, {}", number, other);
    case 1:
      return fmt::format("MOV {}, CR{}", other, number);
    case 2:
      return "CLTS";
    default:
      return fmt::format("LMSW {:X}h", bits(q, 31, 16));
  }
}

std::string port_text(std::uint64_t q) {
  return fmt::format("{}{}{}, port {:X}h, {} byte{}", bit(q, 5) ? "REP " : "",
                     bit(q, 3) ? "IN" : "OUT", bit(q, 4) ? "S" : "", bits(q, 31, 16),
                     bits(q, 2, 0) + 1, bits(q, 2, 0) == 0 ? "" : "s");
}

std::string ept_text(std::uint64_t q) {
  std::string text = bit(q, 2) ? "an instruction fetch" : bit(q, 1) ? "a write" : "a read";
  if (bit(q, 7)) text += bit(q, 8) ? "" : " of a page-table entry";
  const std::uint64_t allowed = bits(q, 5, 3);
  if (allowed == 0) return text + ", nothing is mapped there";
  return text + fmt::format(", the EPT allows {}{}{}", bit(allowed, 0) ? "R" : "",
                            bit(allowed, 1) ? "W" : "", bit(allowed, 2) ? "X" : "");
}

std::string apic_access_text(std::uint64_t q) {
  static constexpr std::string_view kTypes[] = {"linear, a read", "linear, a write",
                                                "linear, an instruction fetch",
                                                "linear, during event delivery"};
  const std::uint64_t type = bits(q, 15, 12);
  return fmt::format("offset {:X}h, {}", bits(q, 11, 0),
                     type < std::size(kTypes) ? kTypes[type] : "guest-physical");
}

std::string debug_text(std::uint64_t q) {
  std::string text;
  for (unsigned i = 0; i < 4; ++i)
    if (bit(q, i)) text += fmt::format("{}B{}", text.empty() ? "" : ", ", i);
  if (bit(q, 13)) text += text.empty() ? "BD" : ", BD";
  if (bit(q, 14)) text += text.empty() ? "BS" : ", BS";
  return text;
}

}  // namespace

std::string_view vmx_exit_name(std::uint16_t basic_reason) {
  const auto* found = std::ranges::lower_bound(kReasons, basic_reason, {}, &NamedReason::value);
  return found != std::end(kReasons) && found->value == basic_reason ? found->name
                                                                     : std::string_view{};
}

std::string vmx_exit_text(std::uint32_t reason) {
  const std::string_view name = vmx_exit_name(static_cast<std::uint16_t>(reason));
  const std::string_view shown = name.empty() ? "unknown reason" : name;
  if ((reason & kEntryFailure) != 0)
    return fmt::format("{:X}h (VM-entry failure: {})", reason, shown);
  return fmt::format("{} ({})", reason, shown);
}

std::string vmx_qualification_text(std::uint32_t reason, std::uint64_t q) {
  switch (static_cast<std::uint16_t>(reason)) {
    case 0:
      return debug_text(q);  // of #DB; of #PF it is the linear address
    case 4:
      return fmt::format("vector {:X}h", bits(q, 7, 0));
    case 9: {
      static constexpr std::string_view kSources[] = {"CALL", "IRET", "JMP", "a task gate"};
      return fmt::format("by {} to {:X}h", kSources[bits(q, 31, 30)], bits(q, 15, 0));
    }
    case 14:
      return fmt::format("address {:X}h", q);
    case 28:
      return control_register_text(q);
    case 29:
      return bit(q, 4) ? fmt::format("MOV {}, DR{}", kRegisters[bits(q, 11, 8)], bits(q, 2, 0))
                       : fmt::format("MOV DR{}, {}", bits(q, 2, 0), kRegisters[bits(q, 11, 8)]);
    case 30:
      return port_text(q);
    case 33:
      if (q == 2) return "PDPTEs";
      if (q == 3) return "an NMI while STI blocks";
      if (q == 4) return "the VMCS link pointer";
      return {};
    case 34:
      return fmt::format("entry {} of the MSR-load list", q);
    case 44:
      return apic_access_text(q);
    case 45:
      return fmt::format("vector {:X}h", bits(q, 7, 0));
    case 48:
      return ept_text(q);
    case 56:
      return fmt::format("offset {:X}h", bits(q, 11, 0));
    default:
      return {};
  }
}

std::string_view exception_name(unsigned vector) {
  return vector < kExceptions.size() ? kExceptions[vector] : std::string_view{};
}

std::string vmx_interruption_text(std::uint32_t info) {
  if (!bit(info, 31)) return "none";
  static constexpr std::string_view kTypes[] = {
      "external interrupt", "reserved type 1",    "NMI",
      "hardware exception", "software interrupt", "privileged software exception",
      "software exception", "other event"};
  const auto vector = static_cast<unsigned>(bits(info, 7, 0));
  const std::uint64_t type = bits(info, 10, 8);
  std::string text = fmt::format("{} {}", kTypes[type], vector);
  if ((type == 3 || type >= 5) && !exception_name(vector).empty())
    text += fmt::format(" ({})", exception_name(vector));
  if (bit(info, 11)) text += " with an error code";
  return text;
}

std::string vm_instruction_error_text(std::uint32_t error) {
  if (error < std::size(kInstructionErrors) && !kInstructionErrors[error].empty())
    return fmt::format("{} ({})", error, kInstructionErrors[error]);
  return fmt::format("{}", error);
}

}  // namespace vmm::nested
