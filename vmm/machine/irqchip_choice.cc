#include "vmm/machine/irqchip_choice.h"

#include <fmt/format.h>

#include <string_view>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

struct Need {
  CpuidKey key;
  CpuidReg reg;
  unsigned bit;
  std::string_view name;
  std::string_view reason;
};

constexpr std::string_view kNested =
    "without KVM's LAPIC, KVM cannot tell an interrupt for the hypervisor from one for its guest";
constexpr std::string_view kParavirtual = "KVM's LAPIC is the other half of this feature";

// KVM's leaf 40000001h.EAX: Linux Documentation/virt/kvm/x86/cpuid.rst.
constexpr Need kNeeds[] = {
    {{1, 0}, CpuidReg::Ecx, 5, "vmx", kNested},
    {{0x80000001, 0}, CpuidReg::Ecx, 2, "svm", kNested},
    {{0x40000001, 0}, CpuidReg::Eax, 4, "kvm-asyncpf", kParavirtual},
    {{0x40000001, 0}, CpuidReg::Eax, 6, "kvm-pv-eoi", kParavirtual},
    {{0x40000001, 0}, CpuidReg::Eax, 7, "kvm-pv-unhalt", kParavirtual},
    {{0x40000001, 0}, CpuidReg::Eax, 11, "kvm-pv-ipi", kParavirtual},
    {{0x40000001, 0}, CpuidReg::Eax, 13, "kvm-pv-sched-yield", kParavirtual},
    {{0x40000001, 0}, CpuidReg::Eax, 14, "kvm-asyncpf-int", kParavirtual},
    {{0x40000001, 0}, CpuidReg::Eax, 15, "kvm-msi-ext-dest-id", kParavirtual},
};

bool has(const CpuidTable& cpuid, const Need& need) {
  return cpuid.bit(need.key.leaf, need.key.subleaf, need.reg, need.bit);
}

std::string word_of(const Need& need) {
  return fmt::format("{}[{}]", cpuid_word_name(need.key, need.reg), need.bit);
}

}  // namespace

std::vector<LapicNeed> needs_of_kernel_lapic(const CpuidTable& cpuid) {
  std::vector<LapicNeed> found;
  for (const Need& need : kNeeds)
    if (has(cpuid, need))
      found.push_back({std::string(need.name), word_of(need), std::string(need.reason)});
  return found;
}

Result<IrqChipChoice> choose_irqchip(std::optional<IrqChipKind> asked, ResolvedCpu& cpu) {
  if (asked && *asked != IrqChipKind::User) return IrqChipChoice{.kind = *asked, .reason = {}};
  const std::vector<LapicNeed> needs = needs_of_kernel_lapic(cpu.cpuid);
  if (needs.empty()) return IrqChipChoice{.may_change = !asked, .reason = {}};
  if (!asked)
    return IrqChipChoice{.kind = IrqChipKind::Split,
                         .reason = fmt::format("{} has {}", cpu.text, needs.front().name)};
  constexpr std::string_view kRemedy = "--irqchip split has KVM's LAPIC";
  if (cpu.policy == CpuPolicy::Strict) {
    const LapicNeed& first = needs.front();
    return fail(Error::host(fmt::format("--irqchip user cannot carry {} ({}) of {}: {}", first.name,
                                        first.word, cpu.text, first.reason))
                    .hint(std::string(kRemedy)));
  }
  for (const Need& need : kNeeds) {
    if (!has(cpu.cpuid, need)) continue;
    if (cpu.policy == CpuPolicy::Mask)
      cpu.cpuid.at(need.key.leaf, need.key.subleaf)[need.reg] &= ~(1u << need.bit);
    cpu.missing.push_back({.name = std::string(need.name),
                           .word = word_of(need),
                           .refused_by = "--irqchip user",
                           .reason = std::string(need.reason),
                           .remedy = std::string(kRemedy)});
  }
  return IrqChipChoice{};
}

}  // namespace vmm
