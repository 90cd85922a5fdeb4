#include <fmt/format.h>

#include <algorithm>

#include "vmm/core/quirks.h"
#include "vmm/cpu/lint.h"
#include "vmm/cpu/model_values.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

using Kind = CpuOverride::Kind;
using Level = LintFinding::Level;

// A feature that must be there cannot stand on one that may be missing.
void lint_wishes(const ResolvedCpu& cpu, std::vector<LintFinding>& found) {
  const CpuWords words = words_of(cpu);
  for (const CpuWish& wish : cpu.wishes) {
    const std::string_view name = FeatureCatalog::get(wish.feature).name;
    for (const CpuWish& other : cpu.wishes) {
      if (wish.kind != Kind::Require || other.kind != Kind::Optional ||
          !FeatureCatalog::needs(wish.feature, other.feature))
        continue;
      const std::string_view needed = FeatureCatalog::get(other.feature).name;
      found.push_back({Level::Warning,
                       "wishes",
                       fmt::format("{} is required and needs {}, which is only optional: a host "
                                   "without {} is refused all the same",
                                   name, needed, needed),
                       fmt::format("require:{}, or optional:{}", needed, name),
                       {wish.feature, other.feature}});
    }
    if (wish.kind == Kind::Forbid && !words.has(wish.feature) &&
        FeatureCatalog::get(wish.feature).kvm_since == "never")
      found.push_back(
          {Level::Note,
           "wishes",
           fmt::format("{} is forbidden, and KVM offers it {}: the wish decides nothing", name,
                       kvm_since_text(FeatureCatalog::get(wish.feature))),
           fmt::format("-{}", name),
           {wish.feature}});
  }
}

void lint_quirks(const ResolvedCpu& cpu, std::vector<LintFinding>& found) {
  const CpuWords words = words_of(cpu);
  const auto off = [&](std::string_view name) {
    return (cpu.quirks_off & find_quirk(name)->bit) != 0;
  };
  const auto add = [&](Level level, std::string_view quirk, std::string what, std::string remedy,
                       std::vector<FeatureId> about) {
    found.push_back({level, "quirk",
                     fmt::format("the quirk {} is {}: {}", quirk, off(quirk) ? "off" : "on", what),
                     std::move(remedy), std::move(about)});
  };
  const FeatureId monitor = feature_id("monitor");
  if (!off("mwait-never-ud-faults") && !words.has(monitor))
    add(Level::Warning, "mwait-never-ud-faults",
        "MONITOR and MWAIT do nothing instead of #UD, though CPUID does not have them",
        "+monitor, "
        "or leave it out of keep-quirks",
        {monitor});
  if (off("misc-enable-no-mwait"))
    add(Level::Warning, "misc-enable-no-mwait",
        "a guest's write to IA32_MISC_ENABLE changes the CPUID bit MONITOR, so that the CPU is no "
        "longer the model's",
        "leave it out of disable-quirks", {monitor});
  if (!off("fix-hypercall-insn"))
    add(Level::Warning, "fix-hypercall-insn",
        "KVM writes into the guest's code where it meets the other vendor's hypercall, and a hash "
        "of that code is another one then",
        "leave it out of keep-quirks", {});
  if (!off("lapic-mmio-hole") && words.has("x2apic"))
    add(Level::Warning, "lapic-mmio-hole", "the APIC page answers in x2APIC mode",
        "leave it out of keep-quirks", {feature_id("x2apic")});
  if (off("cd-nw-cleared"))
    add(Level::Note, "cd-nw-cleared",
        "processors begin with CR0.CD and CR0.NW set, as hardware does, and it is the guest that "
        "has "
        "to clear them",
        "", {});
  if (off("lint0-reenabled"))
    add(Level::Note, "lint0-reenabled",
        "the PIC's interrupts come to no processor until the guest opens LINT0", "", {});
  if (!off("stuff-feature-msrs") && words.has("vmx"))
    add(Level::Note, "stuff-feature-msrs",
        "KVM changes VMX capabilities where CPUID is set; what it makes of them is compared before "
        "the first instruction",
        "leave it out of keep-quirks", {});
}

void lint_numbers(const ResolvedCpu& cpu, std::vector<LintFinding>& found) {
  std::vector<std::string> registers;
  for (const CpuRawWord& raw : cpu.raw)
    registers.push_back(fmt::format("{}={:x}h", raw_word_name(raw), raw.value));
  if (!registers.empty())
    found.push_back({Level::Note,
                     "raw-words",
                     fmt::format("words without names, taken as they are, for no rule is about "
                                 "them and no host is asked: {}",
                                 fmt::join(registers, ", ")),
                     "",
                     {}});
  std::vector<std::string> msrs;
  for (const CpuMsr& msr : cpu.msrs) {
    if (msr.index == kFeatureControl || is_vmx_word({true, msr.index})) continue;
    std::uint64_t rest = msr.value;
    for (const FeatureId id : FeatureCatalog::in_word({true, msr.index}))
      rest &= ~(std::uint64_t{1} << FeatureCatalog::get(id).place.bit);
    if (rest != 0) msrs.push_back(fmt::format("{}={:x}h", msr_name(msr.index), rest));
  }
  if (!msrs.empty() && cpu.name != "host")
    found.push_back({Level::Note,
                     "msr",
                     fmt::format("bits of MSRs without names, for which no rule is here: {}",
                                 fmt::join(msrs, ", ")),
                     "",
                     {}});
}

}  // namespace

std::vector<LintFinding> lint_sections(const ResolvedCpu& cpu) {
  std::vector<LintFinding> found;
  lint_wishes(cpu, found);
  lint_quirks(cpu, found);
  lint_numbers(cpu, found);
  std::ranges::stable_sort(found, {}, &LintFinding::level);
  return found;
}

}  // namespace vmm
