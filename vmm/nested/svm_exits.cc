#include "vmm/nested/svm_exits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "vmm/base/bytes.h"

namespace vmm::nested {

namespace {

struct Exit {
  std::uint32_t code;
  std::string_view name;  // without "VMEXIT_"
  std::string_view cause;
};

// Table C-1 but for the ranges of control registers, debug registers and exceptions.
constexpr Exit kExits[] = {
    {0x60, "INTR", "physical maskable interrupt"},
    {0x61, "NMI", "physical NMI"},
    {0x62, "SMI", "physical SMI"},
    {0x63, "INIT", "physical INIT"},
    {0x64, "VINTR", "virtual interrupt"},
    {0x65, "CR0_SEL_WRITE", "write to CR0 that changes other bits than TS and MP"},
    {0x66, "IDTR_READ", "read of IDTR"},
    {0x67, "GDTR_READ", "read of GDTR"},
    {0x68, "LDTR_READ", "read of LDTR"},
    {0x69, "TR_READ", "read of TR"},
    {0x6a, "IDTR_WRITE", "write of IDTR"},
    {0x6b, "GDTR_WRITE", "write of GDTR"},
    {0x6c, "LDTR_WRITE", "write of LDTR"},
    {0x6d, "TR_WRITE", "write of TR"},
    {0x6e, "RDTSC", "RDTSC instruction"},
    {0x6f, "RDPMC", "RDPMC instruction"},
    {0x70, "PUSHF", "PUSHF instruction"},
    {0x71, "POPF", "POPF instruction"},
    {0x72, "CPUID", "CPUID instruction"},
    {0x73, "RSM", "RSM instruction"},
    {0x74, "IRET", "IRET instruction"},
    {0x75, "SWINT", "software interrupt, INT n"},
    {0x76, "INVD", "INVD instruction"},
    {0x77, "PAUSE", "PAUSE instruction"},
    {0x78, "HLT", "HLT instruction"},
    {0x79, "INVLPG", "INVLPG instruction"},
    {0x7a, "INVLPGA", "INVLPGA instruction"},
    {0x7b, "IOIO", "access to a protected I/O port"},
    {0x7c, "MSR", "access to a protected MSR"},
    {0x7d, "TASK_SWITCH", "task switch"},
    {0x7e, "FERR_FREEZE", "processor frozen by legacy handling of FERR"},
    {0x7f, "SHUTDOWN", "shutdown; the state saved in the VMCB is undefined"},
    {0x80, "VMRUN", "VMRUN instruction"},
    {0x81, "VMMCALL", "VMMCALL instruction"},
    {0x82, "VMLOAD", "VMLOAD instruction"},
    {0x83, "VMSAVE", "VMSAVE instruction"},
    {0x84, "STGI", "STGI instruction"},
    {0x85, "CLGI", "CLGI instruction"},
    {0x86, "SKINIT", "SKINIT instruction"},
    {0x87, "RDTSCP", "RDTSCP instruction"},
    {0x88, "ICEBP", "ICEBP instruction (INT1)"},
    {0x89, "WBINVD", "WBINVD or WBNOINVD instruction"},
    {0x8a, "MONITOR", "MONITOR or MONITORX instruction"},
    {0x8b, "MWAIT", "MWAIT or MWAITX instruction"},
    {0x8c, "MWAIT_CONDITIONAL", "MWAIT or MWAITX instruction with the monitor armed"},
    {0x8d, "XSETBV", "XSETBV instruction"},
    {0x8e, "RDPRU", "RDPRU instruction"},
    {0x8f, "EFER_WRITE_TRAP", "write of EFER, after the instruction"},
    {0xa0, "INVLPGB", "INVLPGB instruction"},
    {0xa1, "INVLPGB_ILLEGAL", "INVLPGB instruction with illegal operands"},
    {0xa2, "INVPCID", "INVPCID instruction"},
    {0xa3, "MCOMMIT", "MCOMMIT instruction"},
    {0xa4, "TLBSYNC", "TLBSYNC instruction"},
    {0xa5, "BUSLOCK", "bus lock with the Bus Lock Threshold Counter at 0"},
    {0xa6, "IDLE_HLT", "HLT instruction with no virtual interrupt pending"},
    {0x400, "NPF", "nested page fault"},
    {0x401, "AVIC_INCOMPLETE_IPI", "AVIC could not deliver an IPI"},
    {0x402, "AVIC_NOACCEL", "access to a vAPIC register that AVIC does not handle"},
    {0x403, "VMGEXIT", "VMGEXIT instruction"},
};
constexpr std::uint64_t kHostFirst = 0xf0000000;  // table C-1 has F000_000h: a slip, says AMD

struct Failure {
  std::uint64_t code;
  std::string_view name;
  std::string_view cause;
};
constexpr Failure kFailures[] = {
    {~0ull, "INVALID", "invalid guest state in the VMCB: VMRUN failed its consistency checks"},
    {~1ull, "BUSY", "the BUSY bit was set in the VMSA"},
    {~2ull, "IDLE_REQUIRED", "the sibling thread was not idle"},
    {~3ull, "INVALID_PMC", "invalid state of the performance counters"},
};

const Exit* find_exit(std::uint64_t code) {
  const auto place =
      std::lower_bound(std::begin(kExits), std::end(kExits), code,
                       [](const Exit& entry, std::uint64_t wanted) { return entry.code < wanted; });
  return place != std::end(kExits) && place->code == code ? place : nullptr;
}

// Negative codes are those of the whole 64 bits; KVM used to write the low half alone.
const Failure* find_failure(std::uint64_t code) {
  const bool half = code >> 32 == 0 && bit(code, 31);
  const std::uint64_t whole = half ? code | 0xffffffff00000000 : code;
  const auto* place = std::find_if(std::begin(kFailures), std::end(kFailures),
                                   [&](const Failure& failure) { return failure.code == whole; });
  return place != std::end(kFailures) ? place : nullptr;
}

// Name and cause of a code in a range.
struct Ranged {
  std::string name;
  std::string cause;
};
Ranged find_range(std::uint64_t code) {
  const unsigned low = code & 0xf;
  switch (code >> 4) {
    case 0x0:
      return {fmt::format("CR{}_READ", low), fmt::format("read of CR{}", low)};
    case 0x1:
      return {fmt::format("CR{}_WRITE", low), fmt::format("write of CR{}", low)};
    case 0x2:
      return {fmt::format("DR{}_READ", low), fmt::format("read of DR{}", low)};
    case 0x3:
      return {fmt::format("DR{}_WRITE", low), fmt::format("write of DR{}", low)};
    case 0x4:
    case 0x5: {
      const unsigned vector = static_cast<unsigned>(code - svm_exit::kExcp0);
      const std::string_view name = svm_exception_name(vector);
      return {fmt::format("EXCP{}", vector),
              name.empty() ? fmt::format("vector {}", vector) : fmt::format("exception {}", name)};
    }
    case 0x9:
      return {fmt::format("CR{}_WRITE_TRAP", low),
              fmt::format("write of CR{}, after the instruction", low)};
    default:
      return {};
  }
}

}  // namespace

std::string svm_exit_name(std::uint64_t code) {
  if (const Failure* failure = find_failure(code)) return fmt::format("VMEXIT_{}", failure->name);
  if (const Exit* exit = find_exit(code)) {
    const bool avic = exit->name.starts_with("AVIC");
    return fmt::format("{}{}", avic ? "" : "VMEXIT_", exit->name);
  }
  const Ranged range = find_range(code);
  return range.name.empty() ? "" : "VMEXIT_" + range.name;
}

std::string svm_intercept_name(unsigned index) {
  if (const Exit* exit = find_exit(index)) return std::string(exit->name);
  if (index >= 0x60 && index < 0x90) return "";
  if (index >= svm_exit::kExcp0 && index < 0x60) {
    const std::string_view name = svm_exception_name(index - 0x40);
    return name.empty() ? "" : std::string(name);
  }
  return find_range(index).name;
}

std::string svm_exit_text(std::uint64_t code) {
  const std::string name = svm_exit_name(code);
  if (const Failure* failure = find_failure(code))
    return fmt::format("{} ({}): {}", name, -static_cast<std::int64_t>(failure - kFailures) - 1,
                       failure->cause);
  if (const Exit* exit = find_exit(code))
    return fmt::format("{} ({:X}h): {}", name, code, exit->cause);
  if (!name.empty()) return fmt::format("{} ({:X}h): {}", name, code, find_range(code).cause);
  if (bits(code, 31, 28) == 0xf && (code >> 32 == 0 || code >> 32 == 0xffffffff))
    return fmt::format("exit code {:X}h, from {:X}h on for the host's own use", code, kHostFirst);
  if (code >> 28 == 8) return fmt::format("exit code {:X}h, a software event of the GHCB", code);
  return fmt::format("exit code {:X}h, which the manual does not define", code);
}

std::string svm_event_text(std::uint64_t event) {
  if (!bit(event, 31)) return "none";
  const unsigned vector = static_cast<unsigned>(bits(event, 7, 0));
  const unsigned type = static_cast<unsigned>(bits(event, 10, 8));
  const std::string_view name = svm_exception_name(vector);
  std::string text;
  switch (type) {
    case 0:
      text = fmt::format("interrupt {:X}h", vector);
      break;
    case 2:
      text = "NMI";
      break;
    case 3:
      text = name.empty() ? fmt::format("exception {}, which is none", vector)
                          : fmt::format("{} (exception {})", name, vector);
      break;
    case 4:
      text = fmt::format("software interrupt {:X}h", vector);
      break;
    default:
      text = fmt::format("reserved type {}, vector {:X}h", type, vector);
      break;
  }
  if (bit(event, 11)) text += fmt::format(", error code {:X}h", bits(event, 63, 32));
  return text;
}

std::string_view svm_exception_name(unsigned vector) {
  constexpr std::array<std::string_view, 32> kNames = {
      "#DE", "#DB", "",    "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS",
      "#NP", "#SS", "#GP", "#PF", "",    "#MF", "#AC", "#MC", "#XF", "", "#CP",
      "",    "",    "",    "",    "",    "",    "#HV", "#VC", "#SX", ""};
  return vector < kNames.size() ? kNames[vector] : std::string_view();
}

}  // namespace vmm::nested
