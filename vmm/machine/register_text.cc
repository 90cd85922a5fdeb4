#include "vmm/machine/register_text.h"

#include <fmt/format.h>

#include <array>
#include <span>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

struct NamedBit {
  unsigned index;
  std::string_view name;
  bool telling = true;
};
constexpr bool kNotTelling = false;

constexpr NamedBit kCr0[] = {{0, "PE"},
                             {1, "MP", kNotTelling},
                             {2, "EM"},
                             {3, "TS"},
                             {4, "ET", kNotTelling},
                             {5, "NE", kNotTelling},
                             {16, "WP"},
                             {18, "AM", kNotTelling},
                             {29, "NW"},
                             {30, "CD"},
                             {31, "PG"}};
constexpr NamedBit kCr4[] = {{0, "VME", kNotTelling},
                             {1, "PVI", kNotTelling},
                             {2, "TSD", kNotTelling},
                             {3, "DE", kNotTelling},
                             {4, "PSE"},
                             {5, "PAE"},
                             {6, "MCE", kNotTelling},
                             {7, "PGE"},
                             {8, "PCE", kNotTelling},
                             {9, "OSFXSR"},
                             {10, "OSXMMEXCPT", kNotTelling},
                             {11, "UMIP"},
                             {12, "LA57"},
                             {13, "VMXE"},
                             {14, "SMXE", kNotTelling},
                             {16, "FSGSBASE"},
                             {17, "PCIDE"},
                             {18, "OSXSAVE"},
                             {20, "SMEP"},
                             {21, "SMAP"},
                             {22, "PKE"},
                             {23, "CET"},
                             {24, "PKS"}};
constexpr NamedBit kEfer[] = {{0, "SCE"},
                              {8, "LME"},
                              {10, "LMA"},
                              {11, "NXE"},
                              {12, "SVME"},
                              {13, "LMSLE", kNotTelling},
                              {14, "FFXSR", kNotTelling},
                              {15, "TCE", kNotTelling}};
constexpr NamedBit kRflags[] = {{0, "CF"},  {2, "PF"},   {4, "AF"},   {6, "ZF"},
                                {7, "SF"},  {8, "TF"},   {9, "IF"},   {10, "DF"},
                                {11, "OF"}, {14, "NT"},  {16, "RF"},  {17, "VM"},
                                {18, "AC"}, {19, "VIF"}, {20, "VIP"}, {21, "ID"}};
constexpr unsigned kIoplHigh = 13, kIoplLow = 12;

std::string register_text(std::string_view name, std::uint64_t value,
                          std::span<const NamedBit> table, BitNames wanted,
                          std::string_view more = {}) {
  std::string names;
  const auto add = [&](std::string_view word) {
    if (!names.empty()) names += ' ';
    names += word;
  };
  for (const NamedBit& entry : table)
    if (bit(value, entry.index) && (entry.telling || wanted == BitNames::All)) add(entry.name);
  if (!more.empty()) add(more);
  return fmt::format("{} {:x}h{}", name, value, names.empty() ? "" : fmt::format(" ({})", names));
}

}  // namespace

std::string cr0_text(std::uint64_t value, BitNames names) {
  return register_text("CR0", value, kCr0, names);
}

std::string cr4_text(std::uint64_t value, BitNames names) {
  return register_text("CR4", value, kCr4, names);
}

std::string efer_text(std::uint64_t value, BitNames names) {
  return register_text("EFER", value, kEfer, names);
}

std::string rflags_text(std::uint64_t value) {
  const std::uint64_t iopl = bits(value, kIoplHigh, kIoplLow);
  return register_text("RFLAGS", value, kRflags, BitNames::All,
                       iopl == 0 ? std::string() : fmt::format("IOPL={}", iopl));
}

std::string_view mode_text(CpuMode mode) {
  switch (mode) {
    case CpuMode::Real:
      return "real mode";
    case CpuMode::Protected16:
      return "16-bit protected mode";
    case CpuMode::Protected32:
      return "32-bit protected mode";
    case CpuMode::Compat16:
      return "long mode, 16-bit code segment";
    case CpuMode::Compat32:
      return "long mode, 32-bit code segment (compatibility)";
    case CpuMode::Long64:
      return "long mode, 64-bit";
  }
  return "";
}

std::string_view paging_text(PagingMode mode) {
  constexpr std::array<std::string_view, 5> kNames = {"paging off", "32-bit paging", "PAE paging",
                                                      "4-level paging", "5-level paging"};
  return kNames[static_cast<std::size_t>(mode)];
}

}  // namespace vmm
