#include "vmm/nested/rule.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/base/bytes.h"

namespace vmm::nested {

std::string_view result_text(EntryResult result) {
  switch (result) {
    case EntryResult::InvalidOpcode:
      return "#UD";
    case EntryResult::GeneralProtection:
      return "#GP(0)";
    case EntryResult::ExitToL1:
      return "a VM exit to the hypervisor of the one that executed it";
    case EntryResult::VmFailInvalid:
      return "VMfailInvalid (CF=1, no error number)";
    case EntryResult::VmFail4:
      return "VMfail, VM-instruction error 4 (VMLAUNCH with non-clear VMCS)";
    case EntryResult::VmFail5:
      return "VMfail, VM-instruction error 5 (VMRESUME with non-launched VMCS)";
    case EntryResult::VmFail7:
      return "VMfail, VM-instruction error 7 (VM entry with invalid control field)";
    case EntryResult::VmFail8:
      return "VMfail, VM-instruction error 8 (VM entry with invalid host-state field)";
    case EntryResult::VmFail26:
      return "VMfail, VM-instruction error 26 (VM entry with events blocked by MOV SS)";
    case EntryResult::Exit33:
      return "VM exit 80000021h (VM-entry failure due to invalid guest state)";
    case EntryResult::Exit33Pdpte:
      return "VM exit 80000021h (invalid guest state), exit qualification 2 (PDPTEs)";
    case EntryResult::Exit33Nmi:
      return "VM exit 80000021h (invalid guest state), exit qualification 3 (NMI while STI blocks)";
    case EntryResult::Exit33Link:
      return "VM exit 80000021h (invalid guest state), exit qualification 4 (VMCS link pointer)";
    case EntryResult::Exit34:
      return "VM exit 80000022h (VM-entry failure due to MSR loading)";
    case EntryResult::Exit41:
      return "VM exit 80000029h (VM-entry failure due to machine-check event)";
    case EntryResult::VmexitInvalid:
      return "#VMEXIT with EXITCODE -1 (VMEXIT_INVALID)";
    case EntryResult::Undefined:
      return "undefined";
  }
  return "?";
}

std::string_view finder_text(Finder finder) {
  switch (finder) {
    case Finder::KvmNamed:
      return "KVM checks it";
    case Finder::KvmSilent:
      return "KVM checks it and says nothing";
    case Finder::Processor:
      return "only the processor finds it";
    case Finder::NotOffered:
      return "KVM offers nothing that could break it";
    case Finder::Nobody:
      return "KVM lets it pass";
  }
  return "?";
}

std::string bit_list(std::uint64_t bits) {
  constexpr int kMostRuns = 6;
  std::string text;
  int runs = 0;
  for (int high = 63; high >= 0; --high) {
    if (!bit(bits, static_cast<unsigned>(high))) continue;
    int low = high;
    while (low > 0 && bit(bits, static_cast<unsigned>(low - 1))) --low;
    if (++runs > kMostRuns) return text + ", ...";
    if (!text.empty()) text += ", ";
    text += high == low ? fmt::format("{}", high) : fmt::format("{}:{}", high, low);
    high = low;
  }
  return text;
}

std::string bits_text(std::uint64_t bits) {
  return ((bits & (bits - 1)) == 0 ? "bit " : "bits ") + bit_list(bits);
}

std::string Violation::text() const {
  std::string line = fmt::format("{} {} {}: {} is {:0{}X}h, allowed: {}", rule->id, rule->subject,
                                 rule->text, field, found, digits, allowed);
  if (!why.empty()) line += fmt::format(" ({})", why);
  return line;
}

void Findings::end() {
  if (known_) ++report_.checked;
}

Violation& Findings::violate(std::string field, std::uint64_t found, unsigned digits,
                             std::string allowed, std::string why) {
  return report_.violations.emplace_back(Violation{.rule = rule_,
                                                   .field = std::move(field),
                                                   .found = found,
                                                   .digits = digits,
                                                   .allowed = std::move(allowed),
                                                   .why = std::move(why)});
}

void Findings::unknown(std::string why) {
  if (known_) report_.unchecked.push_back({rule_, std::move(why)});
  known_ = false;
}

}  // namespace vmm::nested
