// The VM-exit and VM-entry control fields and the injected event (SDM 26.2.1.2, 26.2.1.3).
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;
using F = VmcsField;

// Types of an injected event.
constexpr unsigned kNmi = 2, kHardwareException = 3, kOtherEvent = 7;

// A list of 16-byte entries is aligned and begins within MAXPHYADDR.
void list_begins(VmxCheck& c, F count, F address) {
  if (c.get(count) != 0) c.physical(address, 16);
}

// ... and ends there.
void list_ends(VmxCheck& c, F count, F address) {
  const std::uint64_t entries = c.get(count);
  if (entries == 0) return;
  const std::uint64_t last = c.get(address) + entries * 16 - 1;
  const std::optional<unsigned> width = c.phys_bits();
  if (width && (last & ~low_mask(*width)) != 0)
    c.violate(address, fmt::format("its last byte below {:X}h", low_mask(*width) + 1),
              fmt::format("{} entries end at {:X}h, MAXPHYADDR is {}", entries, last, *width));
}

// Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC.
constexpr bool has_error_code(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}
constexpr unsigned kControlProtection = 21;  // its error code came with CET

void deliver_error_code(VmxCheck& c) {
  const auto type = c.injected_type();
  if (type != kHardwareException || c.injected_vector() > 31) return;
  if (c.unrestricted() && (c.get(F::GuestCr0) & spec::CR0_PE) == 0) return;
  if (c.injected_vector() == kControlProtection) return;
  const auto basic = c.capability(kMsrVmxBasic);
  if (!basic || bit(*basic, 56)) return;
  const bool wanted = has_error_code(c.injected_vector());
  if (c.has(F::VmEntryIntrInfo, 11) != wanted)
    c.violate(F::VmEntryIntrInfo, fmt::format("bit 11 (deliver error code) = {}", wanted ? 1 : 0),
              fmt::format("exception {} {} an error code, and {}[56] is 0", c.injected_vector(),
                          wanted ? "has" : "has not", vmx_msr_text(kMsrVmxBasic)));
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I054", "26.2.1.2", "VM_EXIT_CONTROLS", "must keep to its allowed settings", VmFail7,
      KvmNamed},
     [](VmxCheck& c) { c.allowed_settings(F::VmExitControls); }},
    {{"I055", "26.2.1.2", "SECONDARY_EXIT_CONTROLS", "must keep to its allowed settings", VmFail7,
      NotOffered},
     nullptr,
     "KVM's VMCS has no such field"},
    {{"I056", "26.2.1.2", "preemption timer", "must be activated for its value to be saved",
      VmFail7, KvmSilent},
     [](VmxCheck& c) {
       if (c.on_exit(kSavePreemptionTimer) && !c.pin(kPreemptionTimer))
         c.violate(F::VmExitControls, "bit 22 (\"save VMX-preemption timer value\") = 0",
                   "\"activate VMX-preemption timer\" is 0")
             .bits = 1ull << kSavePreemptionTimer;
     }},
    {{"I057", "26.2.1.2", "exit MSR-store list", "must be 16-byte aligned and within MAXPHYADDR",
      VmFail7, KvmNamed},
     [](VmxCheck& c) { list_begins(c, F::VmExitMsrStoreCount, F::VmExitMsrStoreAddress); }},
    {{"I058", "26.2.1.2", "exit MSR-store list", "must end within MAXPHYADDR", VmFail7, KvmNamed},
     [](VmxCheck& c) { list_ends(c, F::VmExitMsrStoreCount, F::VmExitMsrStoreAddress); }},
    {{"I059", "26.2.1.2", "exit MSR-load list", "must be 16-byte aligned and within MAXPHYADDR",
      VmFail7, KvmNamed},
     [](VmxCheck& c) { list_begins(c, F::VmExitMsrLoadCount, F::VmExitMsrLoadAddress); }},
    {{"I060", "26.2.1.2", "exit MSR-load list", "must end within MAXPHYADDR", VmFail7, KvmNamed},
     [](VmxCheck& c) { list_ends(c, F::VmExitMsrLoadCount, F::VmExitMsrLoadAddress); }},
    {{"I061", "26.2.1.3", "VM_ENTRY_CONTROLS", "must keep to its allowed settings", VmFail7,
      KvmNamed},
     [](VmxCheck& c) { c.allowed_settings(F::VmEntryControls); }},
    {{"I062", "26.2.1.3", "VM_ENTRY_CONTROLS",
      "must not enter SMM or deactivate dual-monitor treatment outside SMM", VmFail7, Processor},
     [](VmxCheck& c) {
       c.no_bits(F::VmEntryControls, 1ull << kEntryToSmm | 1ull << kDeactivateDualMonitor,
                 "the processor is not in SMM");
     }},
    {{"I063", "26.2.1.3", "VM_ENTRY_CONTROLS",
      "must not both enter SMM and deactivate dual-monitor treatment", VmFail7, Processor},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryToSmm) && c.on_entry(kDeactivateDualMonitor))
         c.violate(F::VmEntryControls, "bits 10 and 11 not both 1");
     }},
    {{"I064", "26.2.1.3", "entry MSR-load list", "must be 16-byte aligned and within MAXPHYADDR",
      VmFail7, KvmNamed},
     [](VmxCheck& c) { list_begins(c, F::VmEntryMsrLoadCount, F::VmEntryMsrLoadAddress); }},
    {{"I065", "26.2.1.3", "entry MSR-load list", "must end within MAXPHYADDR", VmFail7, KvmNamed},
     [](VmxCheck& c) { list_ends(c, F::VmEntryMsrLoadCount, F::VmEntryMsrLoadAddress); }},
    {{"I066", "26.2.1.3", "INTR_INFO type",
      "must not be 1, and 7 only where there is a monitor trap flag", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       const auto type = c.injected_type();
       if (type == 1) c.violate(F::VmEntryIntrInfo, "bits 10:8 not 1 (reserved)");
       if (type != kOtherEvent) return;
       const auto msr = c.entry.capabilities.msr_of(F::ProcBasedControls);
       const auto allowed = c.capability(*msr);
       if (!allowed || bit(*allowed, 32 + kMonitorTrapFlag)) return;
       Violation& v = c.violate(F::VmEntryIntrInfo, "bits 10:8 not 7 (other event)",
                                fmt::format("{}[{}], \"monitor trap flag\", is 0",
                                            vmx_msr_text(*msr), 32 + kMonitorTrapFlag));
       v.msr = msr;
       v.msr_bit = 32 + kMonitorTrapFlag;
     }},
    {{"I067", "26.2.1.3", "INTR_INFO vector", "must be 2 for an NMI", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.injected_type() == kNmi && c.injected_vector() != 2)
         c.violate(F::VmEntryIntrInfo, "bits 7:0 = 2", "the type is NMI");
     }},
    {{"I068", "26.2.1.3", "INTR_INFO vector", "must be at most 31 for a hardware exception",
      VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.injected_type() == kHardwareException && c.injected_vector() > 31)
         c.violate(F::VmEntryIntrInfo, "bits 7:0 at most 31", "the type is hardware exception");
     }},
    {{"I069", "26.2.1.3", "INTR_INFO vector", "must be 0 for an other event (pending MTF)", VmFail7,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.injected_type() == kOtherEvent && c.injected_vector() != 0)
         c.violate(F::VmEntryIntrInfo, "bits 7:0 = 0", "the type is other event");
     }},
    {{"I070", "26.2.1.3", "INTR_INFO deliver-error-code",
      "must be 0 unless a hardware exception goes to protected mode", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       const auto type = c.injected_type();
       if (!type || !c.has(F::VmEntryIntrInfo, 11)) return;
       if (*type != kHardwareException)
         c.violate(F::VmEntryIntrInfo, "bit 11 = 0", "the type is not hardware exception");
       else if (c.unrestricted() && (c.get(F::GuestCr0) & spec::CR0_PE) == 0)
         c.violate(F::VmEntryIntrInfo, "bit 11 = 0", "\"unrestricted guest\" is 1 and CR0.PE is 0");
     }},
    {{"I071", "26.2.1.3", "INTR_INFO deliver-error-code",
      "must be 1 for just the exceptions that have an error code", VmFail7, KvmNamed},
     deliver_error_code},
    {{"I072", "26.2.1.3", "INTR_INFO reserved bits", "must be 0", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.injected_type()) c.no_bits(F::VmEntryIntrInfo, 0x7ffff000, "reserved");
     }},
    {{"I073", "26.2.1.3", "ERROR_CODE", "must have bits 31:16 clear", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.injected_type() && c.has(F::VmEntryIntrInfo, 11))
         c.no_bits(F::VmEntryExceptionErrorCode, 0xffff0000);
     }},
    {{"I074", "26.2.1.3", "INSTRUCTION_LEN", "must be 1 to 15 for a software event", VmFail7,
      KvmNamed},
     [](VmxCheck& c) {
       const auto type = c.injected_type();
       if (!type || *type < 4 || *type > 6) return;
       const std::uint64_t length = c.get(F::VmEntryInstructionLen);
       if (length > 15) c.violate(F::VmEntryInstructionLen, "1 to 15");
       if (length != 0) return;
       const auto misc = c.capability(kMsrVmxMisc);
       if (!misc || bit(*misc, 30)) return;
       Violation& v = c.violate(F::VmEntryInstructionLen, "1 to 15",
                                fmt::format("{}[30] is 0", vmx_msr_text(kMsrVmxMisc)));
       v.msr = kMsrVmxMisc;
       v.msr_bit = 30;
     }},
};

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_exit_and_entry_rules() { return kRules; }

}  // namespace vmm::nested
