// What EXITINFO1 and EXITINFO2 say for each exit.
#include <fmt/format.h>

#include <array>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/nested/svm_exits.h"

namespace vmm::nested {

namespace {

// The general-purpose registers by their numbers in instructions.
std::string_view gpr_name(unsigned number) {
  constexpr std::array<std::string_view, 16> kNames = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP",
                                                       "RSI", "RDI", "R8",  "R9",  "R10", "R11",
                                                       "R12", "R13", "R14", "R15"};
  return kNames[number & 15];
}

std::string_view segment_name(unsigned number) {
  constexpr std::array<std::string_view, 8> kNames = {"ES", "CS", "SS", "DS", "FS", "GS", "?", "?"};
  return kNames[number & 7];
}

std::string size_text(std::uint64_t info, unsigned first) {
  return bit(info, first) ? "1 byte" : bit(info, first + 1) ? "2 bytes" : "4 bytes";
}

std::string ioio_text(std::uint64_t info1, std::uint64_t info2) {
  const bool in = bit(info1, 0);
  const bool string = bit(info1, 2);
  std::string text =
      fmt::format("{}{}{}, port {:X}h, {}", bit(info1, 3) ? "REP " : "", in ? "IN" : "OUT",
                  string ? "S" : "", bits(info1, 31, 16), size_text(info1, 4));
  if (string)
    text += fmt::format(", segment {}, {}-bit address",
                        segment_name(static_cast<unsigned>(bits(info1, 12, 10))),
                        bit(info1, 9)   ? 64
                        : bit(info1, 8) ? 32
                                        : 16);
  return text + fmt::format("; the next instruction is at {:X}h", info2);
}

std::string smi_text(std::uint64_t info1, std::uint64_t info2) {
  std::string text = bit(info1, 0) ? "external SMI" : "SMI of the processor's own I/O trapping";
  if (bit(info1, 1)) text += ", a redirected machine check";
  if (bit(info1, 33))
    text += fmt::format(" during {}{}{} of port {:X}h, {}, at {:X}h", bit(info1, 35) ? "REP " : "",
                        bit(info1, 32) ? "IN" : "OUT", bit(info1, 34) ? "S" : "",
                        bits(info1, 63, 48), size_text(info1, 36), info2);
  return text;
}

std::string task_switch_text(std::uint64_t info1, std::uint64_t info2) {
  std::string text = fmt::format("to TSS selector {:X}h by {}", bits(info1, 15, 0),
                                 bit(info2, 36)   ? "IRET"
                                 : bit(info2, 38) ? "a far jump"
                                                  : "a call, interrupt or exception");
  if (bit(info2, 44)) text += fmt::format(", error code {:X}h", bits(info2, 31, 0));
  return text + fmt::format(", EFLAGS.RF {}", bit(info2, 48) ? 1 : 0);
}

std::string npf_text(std::uint64_t info1, std::uint64_t info2) {
  const std::string_view what = (info1 & npf::kFetch) != 0         ? "fetch from"
                                : (info1 & npf::kShadowStack) != 0 ? "shadow-stack access to"
                                : (info1 & npf::kWrite) != 0       ? "write to"
                                                                   : "read of";
  std::string text = fmt::format("{} guest physical address {:X}h", what, info2);
  if ((info1 & npf::kTables) != 0) text += " (one of the guest's own page tables)";
  text += (info1 & npf::kRmp) != 0        ? ": the RMP forbids it"
          : (info1 & npf::kReserved) != 0 ? ": a reserved bit is set in the nested tables"
          : (info1 & npf::kPresent) != 0  ? ": the nested tables forbid it"
                                          : ": not present in the nested tables";
  return text + fmt::format(" ({})", npf_code_text(info1));
}

std::string incomplete_ipi_text(std::uint64_t info1, std::uint64_t info2) {
  constexpr std::array<std::string_view, 6> kCauses = {
      "invalid interrupt type",       "target not running",  "invalid target",
      "invalid backing page pointer", "vector less than 16", "not accelerated"};
  const std::uint64_t id = bits(info2, 63, 32);
  std::string text = id < kCauses.size() ? std::string(kCauses[id]) : fmt::format("cause {}", id);
  if (id >= 1 && id <= 3) text += fmt::format(", index {}", bits(info2, 11, 0));
  return text + fmt::format("; ICRH {:08X}h, ICRL {:08X}h", info1 >> 32, bits(info1, 31, 0));
}

// CR accesses: bit 63 tells MOV from LMSW, SMSW and CLTS, with decode assists.
std::string register_text(std::uint64_t code, std::uint64_t info1) {
  const bool control = code < 0x20 || code == 0x65;
  const bool write = (code & 0x10) != 0 || code == 0x65;
  if (control && !bit(info1, 63)) return "";
  return fmt::format("MOV {} {}", write ? "from" : "to",
                     gpr_name(static_cast<unsigned>(bits(info1, 3, 0))));
}

std::string exception_info_text(unsigned vector, std::uint64_t info1, std::uint64_t info2) {
  switch (vector) {
    case 11:
    case 12:
    case 13:
    case 17:
    case 21:
    case 30:
      return fmt::format("error code {:X}h", info1);
    case 14:
      return fmt::format("error code {:X}h, address {:X}h", info1, info2);
    default:
      return "";
  }
}

}  // namespace

std::string svm_exit_info_text(std::uint64_t code, std::uint64_t info1, std::uint64_t info2) {
  if (code < 0x40 || code == 0x65) return register_text(code, info1);
  if (code < 0x60) return exception_info_text(static_cast<unsigned>(code - 0x40), info1, info2);
  if (code >= 0x8f && code <= 0x9f) return fmt::format("new value {:X}h", info1);
  switch (code) {
    case 0x62:
      return smi_text(info1, info2);
    case 0x75:
      return fmt::format("INT {:X}h", bits(info1, 7, 0));
    case 0x79:
      return fmt::format("linear address {:X}h", info1);
    case 0x7b:
      return ioio_text(info1, info2);
    case 0x7c:
      return bit(info1, 0) ? "WRMSR; its index is in RCX" : "RDMSR; its index is in RCX";
    case 0x7d:
      return task_switch_text(info1, info2);
    case 0x400:
      return npf_text(info1, info2);
    case 0x401:
      return incomplete_ipi_text(info1, info2);
    case 0x402:
      return fmt::format("{} of vAPIC offset {:X}h{}", bit(info1, 32) ? "write" : "read",
                         bits(info1, 11, 4) << 4,
                         bit(info1, 32) && bits(info1, 11, 4) == 0xb
                             ? fmt::format(", vector {:X}h in service", bits(info2, 7, 0))
                             : "");
    default:
      return "";
  }
}

std::string npf_code_text(std::uint64_t info1) {
  constexpr std::pair<unsigned, std::string_view> kNames[] = {
      {0, "P"},      {1, "W"},     {2, "U"},      {3, "RSV"},     {4, "ID"},
      {6, "SS"},     {31, "RMP"},  {32, "final"}, {33, "tables"}, {34, "ENC"},
      {35, "SIZEM"}, {36, "VMPL"}, {37, "SSS"}};
  std::string text;
  for (const auto& [index, name] : kNames)
    if (bit(info1, index)) text += fmt::format("{}{}", text.empty() ? "" : "|", name);
  return text.empty() ? "0" : text;
}

}  // namespace vmm::nested
