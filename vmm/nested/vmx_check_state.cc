// The guest's non-register state (SDM 26.3.1.5).
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;
using F = VmcsField;

enum Activity : std::uint64_t { kActive, kHlt, kShutdown, kWaitForSipi };
constexpr unsigned kSti = 0, kMovSs = 1, kSmi = 2, kNmi = 3, kEnclave = 4;  // interruptibility
constexpr unsigned kBs = 14, kRtm = 16;                                     // pending debug
constexpr unsigned kInterruptType = 0, kNmiType = 2, kExceptionType = 3, kOtherType = 7;
constexpr std::uint64_t kNoLink = ~std::uint64_t{0};

std::uint64_t activity(const VmxCheck& c) { return c.get(F::GuestActivityState); }
bool blocked(const VmxCheck& c, unsigned by) { return c.has(F::GuestInterruptibility, by); }
bool blocked_by_sti_or_mov_ss(const VmxCheck& c) { return blocked(c, kSti) || blocked(c, kMovSs); }

void blocking_clear(VmxCheck& c, unsigned by, std::string why) {
  static constexpr std::string_view kNames[] = {"STI", "MOV SS", "SMI", "NMI", "enclave"};
  if (blocked(c, by))
    c.violate(F::GuestInterruptibility, fmt::format("bit {} ({}) = 0", by, kNames[by]),
              std::move(why))
        .bits = 1ull << by;
}

std::string injected_text(VmxCheck& c) {
  return fmt::format("an event of type {}, vector {} is injected", *c.injected_type(),
                     c.injected_vector());
}

void activity_offered(VmxCheck& c) {
  static constexpr std::string_view kNames[] = {"active", "HLT", "shutdown", "wait-for-SIPI"};
  const std::uint64_t state = activity(c);
  if (state > kWaitForSipi) {
    c.violate(F::GuestActivityState, "0 (active) to 3 (wait-for-SIPI)");
    return;
  }
  if (state == kActive) return;
  const auto misc = c.capability(kMsrVmxMisc);
  const auto cap = static_cast<unsigned>(state) + 5;
  if (!misc || bit(*misc, cap)) return;
  Violation& v =
      c.violate(F::GuestActivityState, "a state that the processor offers",
                fmt::format("{}[{}] ({}) is 0", vmx_msr_text(kMsrVmxMisc), cap, kNames[state]));
  v.msr = kMsrVmxMisc;
  v.msr_bit = cap;
}

// What may wake a processor that is halted.
bool wakes_from_hlt(unsigned type, unsigned vector) {
  return type == kInterruptType || type == kNmiType ||
         (type == kExceptionType && (vector == 1 || vector == 18)) ||
         (type == kOtherType && vector == 0);
}

void single_step(VmxCheck& c, bool pending) {
  if (!blocked_by_sti_or_mov_ss(c) && activity(c) != kHlt) return;
  const bool tf = (c.get(F::GuestRflags) & spec::RFLAGS_TF) != 0;
  const bool btf = c.has(F::GuestDebugctl, 1);
  const bool wanted = tf && !btf;
  if (wanted != pending || c.has(F::GuestPendingDebug, kBs) == wanted) return;
  c.violate(F::GuestPendingDebug, fmt::format("bit 14 (BS) = {}", wanted ? 1 : 0),
            fmt::format("RFLAGS.TF is {}, IA32_DEBUGCTL.BTF {}", tf ? 1 : 0, btf ? 1 : 0));
}

void pending_rtm(VmxCheck& c) {
  if (!c.has(F::GuestPendingDebug, kRtm)) return;
  c.no_bits(F::GuestPendingDebug, 0xefff, "bit 16 (RTM) is 1");
  if (!c.has(F::GuestPendingDebug, 12)) c.violate(F::GuestPendingDebug, "bit 12 = 1", "RTM is 1");
  if (blocked(c, kMovSs)) blocking_clear(c, kMovSs, "bit 16 (RTM) of the pending debug exceptions");
  const auto rtm = c.cpuid_bit(7, 0, CpuidReg::Ebx, 11);
  if (rtm && !*rtm)
    c.violate(F::GuestPendingDebug, "bit 16 (RTM) = 0", "CPUID 7.0.EBX[11] (rtm) is 0");
}

void pending_debug_reserved(VmxCheck& c) {
  // Bit 11 is the bus lock's where CPUID 7.0.ECX[24] has it.
  const bool bus_lock = c.entry.cpuid != nullptr && c.entry.cpuid->bit(7, 0, CpuidReg::Ecx, 24);
  std::uint64_t reserved = 0x7full << 4 | 1ull << 13 | 1ull << 15 | ~low_mask(17);
  if (!bus_lock) reserved |= 1ull << 11;
  c.no_bits(F::GuestPendingDebug, reserved, "reserved");
}

// The first word of the region that the link pointer names, where there is one.
std::optional<std::uint32_t> linked_region(VmxCheck& c) {
  const std::uint64_t link = c.get(F::VmcsLinkPointer);
  if (link == kNoLink) return std::nullopt;
  if (c.entry.memory == nullptr) {
    c.findings.unknown("the region that the link pointer names is not known: no memory");
    return std::nullopt;
  }
  const auto word = c.entry.memory->read_value<std::uint32_t>(link);
  if (!word) c.findings.unknown(fmt::format("{:X}h is not RAM", link));
  return word;
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I186", "26.3.1.5", "ACTIVITY_STATE", "must be one that the processor offers", Exit33,
      KvmNamed},
     activity_offered},
    {{"I187", "26.3.1.5", "ACTIVITY_STATE", "must not be HLT outside ring 0", Exit33, Processor},
     [](VmxCheck& c) {
       const std::uint64_t dpl = bits(c.get(F::GuestSsAccessRights), 6, 5);
       if (activity(c) == kHlt && dpl != 0)
         c.violate(F::GuestActivityState, "not 1 (HLT)", fmt::format("the DPL of SS is {}", dpl));
     }},
    {{"I188", "26.3.1.5", "ACTIVITY_STATE", "must be active while STI or MOV SS blocks", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (activity(c) != kActive && blocked_by_sti_or_mov_ss(c))
         c.violate(F::GuestActivityState, "0 (active)",
                   blocked(c, kSti) ? "STI blocks" : "MOV SS blocks");
     }},
    {{"I189", "26.3.1.5", "ACTIVITY_STATE", "must not be HLT with an event that does not end it",
      Exit33, Processor},
     [](VmxCheck& c) {
       const auto type = c.injected_type();
       if (activity(c) == kHlt && type && !wakes_from_hlt(*type, c.injected_vector()))
         c.violate(F::GuestActivityState, "not 1 (HLT)", injected_text(c));
     }},
    {{"I190", "26.3.1.5", "ACTIVITY_STATE", "must not be shutdown with any event but NMI or #MC",
      Exit33, Processor},
     [](VmxCheck& c) {
       const auto type = c.injected_type();
       if (activity(c) != kShutdown || !type || *type == kNmiType) return;
       if (*type == kExceptionType && c.injected_vector() == 18) return;
       c.violate(F::GuestActivityState, "not 2 (shutdown)", injected_text(c));
     }},
    {{"I191", "26.3.1.5", "ACTIVITY_STATE", "must not be wait-for-SIPI with an event", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (activity(c) == kWaitForSipi && c.injected_type())
         c.violate(F::GuestActivityState, "not 3 (wait-for-SIPI)", injected_text(c));
     }},
    {{"I192", "26.3.1.5", "ACTIVITY_STATE", "must not be wait-for-SIPI on entry to SMM", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (activity(c) == kWaitForSipi && c.on_entry(kEntryToSmm))
         c.violate(F::GuestActivityState, "not 3 (wait-for-SIPI)", "\"entry to SMM\" is 1");
     }},
    {{"I193", "26.3.1.5", "INTERRUPTIBILITY", "must have bits 31:5 clear", Exit33, Processor},
     [](VmxCheck& c) { c.no_bits(F::GuestInterruptibility, 0xffffffe0, "reserved"); }},
    {{"I194", "26.3.1.5", "INTERRUPTIBILITY", "must not have both STI and MOV SS", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (blocked(c, kSti) && blocked(c, kMovSs))
         c.violate(F::GuestInterruptibility, "bits 0 (STI) and 1 (MOV SS) not both 1");
     }},
    {{"I195", "26.3.1.5", "INTERRUPTIBILITY", "must not have STI while RFLAGS.IF is 0", Exit33,
      Processor},
     [](VmxCheck& c) {
       if ((c.get(F::GuestRflags) & spec::RFLAGS_IF) == 0)
         blocking_clear(c, kSti, "RFLAGS.IF is 0");
     }},
    {{"I196", "26.3.1.5", "INTERRUPTIBILITY",
      "must not block an external interrupt that is injected", Exit33, Processor},
     [](VmxCheck& c) {
       if (c.injected_type() != kInterruptType) return;
       blocking_clear(c, kSti, injected_text(c));
       blocking_clear(c, kMovSs, injected_text(c));
     }},
    {{"I197", "26.3.1.5", "INTERRUPTIBILITY", "must not have MOV SS for an NMI that is injected",
      Exit33, Processor},
     [](VmxCheck& c) {
       if (c.injected_type() == kNmiType) blocking_clear(c, kMovSs, injected_text(c));
     }},
    {{"I198", "26.3.1.5", "INTERRUPTIBILITY",
      "must not have STI for an NMI that is injected, on some processors", Exit33Nmi, Processor},
     [](VmxCheck& c) {
       if (c.injected_type() == kNmiType) blocking_clear(c, kSti, injected_text(c));
     }},
    {{"I199", "26.3.1.5", "INTERRUPTIBILITY", "must not have SMI outside SMM", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.on_entry(kEntryToSmm)) blocking_clear(c, kSmi, "the processor is not in SMM");
     }},
    {{"I200", "26.3.1.5", "INTERRUPTIBILITY", "must have SMI on entry to SMM", Exit33, Processor},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryToSmm) && !blocked(c, kSmi))
         c.violate(F::GuestInterruptibility, "bit 2 (SMI) = 1", "\"entry to SMM\" is 1");
     }},
    {{"I201", "26.3.1.5", "INTERRUPTIBILITY",
      "must not have NMI for an NMI that is injected with virtual NMIs", Exit33, Processor},
     [](VmxCheck& c) {
       if (c.injected_type() == kNmiType && c.pin(kVirtualNmis))
         blocking_clear(c, kNmi, "\"virtual NMIs\" is 1, and an NMI is injected");
     }},
    {{"I202", "26.3.1.5", "INTERRUPTIBILITY", "must not have enclave without SGX or with MOV SS",
      Exit33, Processor},
     [](VmxCheck& c) {
       if (!blocked(c, kEnclave)) return;
       if (blocked(c, kMovSs)) blocking_clear(c, kMovSs, "bit 4 (enclave) is 1");
       const auto sgx = c.cpuid_bit(7, 0, CpuidReg::Ebx, 2);
       if (sgx && !*sgx) blocking_clear(c, kEnclave, "CPUID 7.0.EBX[2] (sgx) is 0");
     }},
    {{"I203", "26.3.1.5", "PENDING_DBG", "must have reserved bits clear", Exit33, Processor},
     pending_debug_reserved},
    {{"I204", "26.3.1.5", "PENDING_DBG.BS", "must be 1 for a single step that is held back", Exit33,
      Processor},
     [](VmxCheck& c) { single_step(c, true); }},
    {{"I205", "26.3.1.5", "PENDING_DBG.BS", "must be 0 when no single step is held back", Exit33,
      Processor},
     [](VmxCheck& c) { single_step(c, false); }},
    {{"I206", "26.3.1.5", "PENDING_DBG.RTM", "must come with bit 12 alone, and RTM", Exit33,
      Processor},
     pending_rtm},
    {{"I207", "26.3.1.5", "VMCS_LINK_POINTER", "must be 4 KiB aligned unless it is ~0", Exit33Link,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.get(F::VmcsLinkPointer) != kNoLink) c.no_bits(F::VmcsLinkPointer, 0xfff);
     }},
    {{"I208", "26.3.1.5", "VMCS_LINK_POINTER", "must be within MAXPHYADDR unless it is ~0",
      Exit33Link, KvmNamed},
     [](VmxCheck& c) {
       if (c.get(F::VmcsLinkPointer) != kNoLink) c.within_phys_bits(F::VmcsLinkPointer);
     }},
    {{"I209", "26.3.1.5", "VMCS_LINK_POINTER", "must name a region with the revision identifier",
      Exit33Link, KvmNamed},
     [](VmxCheck& c) {
       const auto word = linked_region(c);
       if (word && (*word & 0x7fffffff) != c.entry.vmcs.revision())
         c.violate(F::VmcsLinkPointer, "~0, or a region that begins with the revision identifier",
                   fmt::format("{:X}h is there, it is {:X}h", *word, c.entry.vmcs.revision()));
     }},
    {{"I210", "26.3.1.5", "VMCS_LINK_POINTER",
      "must name a shadow VMCS just with \"VMCS shadowing\"", Exit33Link, KvmNamed},
     [](VmxCheck& c) {
       const auto word = linked_region(c);
       if (word && bit(*word, 31) != c.secondary(kVmcsShadowing))
         c.violate(F::VmcsLinkPointer, "~0, or a region of that kind",
                   fmt::format("\"VMCS shadowing\" is {}, bit 31 of the region {}",
                               c.secondary(kVmcsShadowing) ? 1 : 0, bit(*word, 31) ? 1 : 0));
     }},
    {{"I211", "26.3.1.5", "VMCS_LINK_POINTER", "must not be the current VMCS", Exit33Link,
      Processor},
     [](VmxCheck& c) {
       const std::uint64_t link = c.get(F::VmcsLinkPointer);
       if (link == kNoLink) return;
       if (!c.entry.vmcs_address) return c.findings.unknown("the current VMCS is not known");
       if (link == *c.entry.vmcs_address)
         c.violate(F::VmcsLinkPointer, "~0, or another region", "it is the current VMCS");
     }},
};

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_guest_state_rules() { return kRules; }

}  // namespace vmm::nested
