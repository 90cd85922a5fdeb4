#include "vmm/core/quirks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/core/uapi.h"

namespace vmm {
namespace {

constexpr std::array<KvmQuirk, 11> kQuirks = {{
    // As firmware leaves it; there is none here that could.
    {KVM_X86_QUIRK_LINT0_REENABLED, "lint0-reenabled",
     "the first processor's LINT0 passes the PIC's interrupts on from the start", "", false, true},
    // KVM starts processors so, and again no firmware clears it.
    {KVM_X86_QUIRK_CD_NW_CLEARED, "cd-nw-cleared",
     "CR0.CD and CR0.NW are 0 after reset, and caches work whatever CR0.CD says", "", false, true},
    {KVM_X86_QUIRK_LAPIC_MMIO_HOLE, "lapic-mmio-hole",
     "the APIC page answers in x2APIC mode too, where hardware has none", "", true, true},
    // The exit would be behind the OUT, and before it at every other port.
    {KVM_X86_QUIRK_OUT_7E_INC_RIP, "out-7e-inc-rip",
     "RIP is already behind an OUT to port 7Eh when it exits", "", true, true},
    // CPUID bits are the model's, and not a guest's to change.
    {KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, "misc-enable-no-mwait",
     "a write to IA32_MISC_ENABLE leaves the CPUID bit MONITOR as it is", "", false, true},
    // On kvm_pvm, whose emulator meets the instruction again, such a guest never comes back.
    {KVM_X86_QUIRK_FIX_HYPERCALL_INSN, "fix-hypercall-insn",
     "a VMCALL on AMD or a VMMCALL on Intel is overwritten in the guest's code", "", true, true},
    {KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS, "mwait-never-ud-faults",
     "MONITOR and MWAIT do nothing, even on a CPU that does not have them", "", true, true},
    {KVM_X86_QUIRK_SLOT_ZAP_ALL, "slot-zap-all", "KVM drops all its page tables with one slot",
     "6.12", false, false},
    // vmm sets every feature MSR that a guest is told of, and reads it back; so nothing is left of
    // KVM's own values where this quirk stays.
    {KVM_X86_QUIRK_STUFF_FEATURE_MSRS, "stuff-feature-msrs",
     "feature MSRs begin with KVM's own values, and CPUID changes VMX capabilities behind the "
     "model",
     "6.13, or 6.12.y", true, false},
    {KVM_X86_QUIRK_IGNORE_GUEST_PAT, "ignore-guest-pat",
     "the guest's PAT has no say in how memory is cached", "", false, false},
    {KVM_X86_QUIRK_VMCS12_ALLOW_FREEZE_IN_SMM, "vmcs12-allow-freeze-in-smm",
     "a VMCS of a guest hypervisor may have a bit of DEBUGCTL that the CPU lacks", "", false, true},
}};

}  // namespace

std::span<const KvmQuirk> kvm_quirks() { return kQuirks; }

const KvmQuirk* find_quirk(std::string_view name) {
  const auto at = std::ranges::find(kQuirks, dashed(name), &KvmQuirk::name);
  return at != kQuirks.end() ? &*at : nullptr;
}

std::uint32_t usual_quirks_off() {
  std::uint32_t mask = 0;
  for (const KvmQuirk& quirk : kQuirks)
    if (quirk.off) mask |= quirk.bit;
  return mask;
}

std::vector<std::string> quirk_names(std::uint32_t quirks) {
  std::vector<std::string> names;
  for (unsigned i = 0; i < 32; ++i) {
    if (!bit(quirks, i)) continue;
    const auto at = std::ranges::find(kQuirks, std::uint32_t{1} << i, &KvmQuirk::bit);
    names.push_back(at != kQuirks.end() ? std::string(at->name) : fmt::format("bit {}", i));
  }
  return names;
}

std::vector<std::string> quirk_constants(std::uint32_t quirks) {
  std::vector<std::string> names = quirk_names(quirks);
  for (std::string& name : names)
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return names;
}

}  // namespace vmm
