// The guest's control, debug and descriptor-table registers, MSRs, RIP and RFLAGS (SDM 26.3.1.1,
// 26.3.1.3, 26.3.1.4).
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;
using F = VmcsField;

constexpr std::uint64_t kHighHalf = ~std::uint64_t{0} << 32;

bool guest_cr0(const VmxCheck& c, std::uint64_t mask) { return (c.get(F::GuestCr0) & mask) != 0; }
bool guest_cr4(const VmxCheck& c, std::uint64_t mask) { return (c.get(F::GuestCr4) & mask) != 0; }

// Whether the guest begins in 64-bit code.
bool guest64(const VmxCheck& c) { return c.ia32e_guest() && c.has(F::GuestCsAccessRights, 13); }

void debugctl(VmxCheck& c) {
  if (!c.on_entry(kLoadDebugControls)) return;
  const auto bus_lock = c.cpuid_bit(7, 0, CpuidReg::Ecx, 24);
  const auto rtm = c.cpuid_bit(7, 0, CpuidReg::Ebx, 11);
  if (!bus_lock || !rtm) return;
  std::uint64_t reserved = ~low_mask(16) | 7ull << 3;
  if (!*bus_lock) reserved |= 1ull << 2;
  if (!*rtm) reserved |= 1ull << 15;
  c.no_bits(F::GuestDebugctl, reserved, "reserved");
}

// Bits 63:N are equal, N being what the processor has of linear addresses.
void rip_in_64_bit_code(VmxCheck& c) {
  if (!guest64(c)) return;
  const bool la57 = c.entry.cpuid != nullptr && c.entry.cpuid->bit(7, 0, CpuidReg::Ecx, 16);
  const unsigned width = la57 ? 57 : 48;
  const std::uint64_t high = c.get(F::GuestRip) >> width;
  if (high != 0 && high != low_mask(64 - width))
    c.violate(F::GuestRip, fmt::format("bits 63:{} all equal", width));
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I109", "26.3.1.1", "GUEST_CR0", "must keep to IA32_VMX_CR0_FIXED0 and FIXED1", Exit33,
      KvmNamed},
     [](VmxCheck& c) {
       std::uint64_t exempt = spec::CR0_NW | spec::CR0_CD;
       if (c.unrestricted()) exempt |= spec::CR0_PE | spec::CR0_PG;
       c.fixed_bits(F::GuestCr0, kMsrVmxCr0Fixed0, kMsrVmxCr0Fixed1, exempt);
     }},
    {{"I110", "26.3.1.1", "GUEST_CR0.PG", "needs CR0.PE", Exit33, KvmNamed},
     [](VmxCheck& c) {
       if (guest_cr0(c, spec::CR0_PG) && !guest_cr0(c, spec::CR0_PE))
         c.violate(F::GuestCr0, "bit 0 (PE) = 1", "PG is 1");
     }},
    {{"I111", "26.3.1.1", "GUEST_CR4", "must keep to IA32_VMX_CR4_FIXED0 and FIXED1", Exit33,
      KvmNamed},
     [](VmxCheck& c) { c.fixed_bits(F::GuestCr4, kMsrVmxCr4Fixed0, kMsrVmxCr4Fixed1, 0); }},
    {{"I112", "26.3.1.1", "GUEST_CR4.CET", "needs CR0.WP", Exit33, KvmNamed},
     [](VmxCheck& c) {
       if (guest_cr4(c, spec::CR4_CET) && !guest_cr0(c, spec::CR0_WP))
         c.violate(F::GuestCr0, "bit 16 (WP) = 1", "CET is 1 in the guest CR4");
     }},
    {{"I113", "26.3.1.1", "GUEST_DEBUGCTL", "must have reserved bits clear if it is loaded", Exit33,
      KvmNamed},
     debugctl},
    {{"I114", "26.3.1.1", "IA-32e guest", "must have CR0.PG and CR4.PAE", Exit33, KvmNamed},
     [](VmxCheck& c) {
       if (!c.ia32e_guest()) return;
       if (!guest_cr0(c, spec::CR0_PG))
         c.violate(F::GuestCr0, "bit 31 (PG) = 1", "\"IA-32e mode guest\" is 1");
       if (!guest_cr4(c, spec::CR4_PAE))
         c.violate(F::GuestCr4, "bit 5 (PAE) = 1", "\"IA-32e mode guest\" is 1");
     }},
    {{"I115", "26.3.1.1", "GUEST_CR4.PCIDE", "needs an IA-32e guest", Exit33, Processor},
     [](VmxCheck& c) {
       if (!c.ia32e_guest()) c.no_bits(F::GuestCr4, spec::CR4_PCIDE, "\"IA-32e mode guest\" is 0");
     }},
    {{"I116", "26.3.1.1", "GUEST_CR3", "must be within MAXPHYADDR", Exit33, KvmNamed},
     [](VmxCheck& c) { c.cr3(F::GuestCr3); }},
    {{"I117", "26.3.1.1", "GUEST_DR7", "must have bits 63:32 clear if it is loaded", Exit33,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.on_entry(kLoadDebugControls)) c.no_bits(F::GuestDr7, kHighHalf);
     }},
    {{"I118", "26.3.1.1", "GUEST_SYSENTER_ESP", "must be canonical", Exit33, Processor},
     [](VmxCheck& c) { c.canonical(F::GuestSysenterEsp); }},
    {{"I119", "26.3.1.1", "GUEST_SYSENTER_EIP", "must be canonical", Exit33, Processor},
     [](VmxCheck& c) { c.canonical(F::GuestSysenterEip); }},
    {{"I120", "26.3.1.1", "GUEST_S_CET, SSP, SSP_TABLE", "must be valid if CET state is loaded",
      Exit33, KvmNamed},
     [](VmxCheck& c) {
       if (!c.on_entry(kEntryLoadCet)) return;
       c.s_cet(F::GuestSCet);
       c.no_bits(F::GuestSsp, 3);
       c.canonical(F::GuestSsp);
       c.canonical(F::GuestSspTbl);
     }},
    {{"I121", "26.3.1.1", "GUEST_PERF_GLOBAL_CTRL", "must have reserved bits clear if it is loaded",
      Exit33, KvmNamed},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryLoadPerfGlobalCtrl)) c.perf_global_reserved(F::GuestPerfGlobalCtrl);
     }},
    {{"I122", "26.3.1.1", "GUEST_PAT", "must hold memory types if it is loaded", Exit33, KvmNamed},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryLoadPat)) c.pat(F::GuestPat);
     }},
    {{"I123", "26.3.1.1", "GUEST_EFER", "must have reserved bits clear if it is loaded", Exit33,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryLoadEfer)) c.efer_reserved(F::GuestEfer);
     }},
    {{"I124", "26.3.1.1", "GUEST_EFER.LMA", "must be as \"IA-32e mode guest\" if EFER is loaded",
      Exit33, KvmNamed},
     [](VmxCheck& c) {
       if (!c.on_entry(kEntryLoadEfer)) return;
       if (((c.get(F::GuestEfer) & spec::EFER_LMA) != 0) != c.ia32e_guest())
         c.violate(F::GuestEfer, fmt::format("bit 10 (LMA) = {}", c.ia32e_guest() ? 1 : 0),
                   fmt::format("\"IA-32e mode guest\" is {}", c.ia32e_guest() ? 1 : 0));
     }},
    {{"I125", "26.3.1.1", "GUEST_EFER.LME", "must be as LMA while paging if EFER is loaded", Exit33,
      KvmNamed},
     [](VmxCheck& c) {
       if (!c.on_entry(kEntryLoadEfer) || !guest_cr0(c, spec::CR0_PG)) return;
       const std::uint64_t efer = c.get(F::GuestEfer);
       const bool lma = (efer & spec::EFER_LMA) != 0;
       if (((efer & spec::EFER_LME) != 0) != lma)
         c.violate(F::GuestEfer, fmt::format("bit 8 (LME) = {}", lma ? 1 : 0),
                   fmt::format("LMA is {} and CR0.PG is 1", lma ? 1 : 0));
     }},
    {{"I126", "26.3.1.1", "GUEST_BNDCFGS", "must have bits 11:2 clear if it is loaded", Exit33,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryLoadBndcfgs)) c.no_bits(F::GuestBndcfgs, 0xffc, "reserved");
     }},
    {{"I127", "26.3.1.1", "GUEST_BNDCFGS", "must hold a canonical address if it is loaded", Exit33,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryLoadBndcfgs)) c.canonical(F::GuestBndcfgs, 12);
     }},
    {{"I128", "26.3.1.1", "GUEST_RTIT_CTL", "must be valid if it is loaded", Exit33, NotOffered},
     nullptr,
     "KVM's VMCS has no such field"},
    {{"I129", "26.3.1.1", "GUEST_LBR_CTL, PKRS, UINV, SPEC_CTRL, FRED",
      "must have reserved bits clear if they are loaded", Exit33, NotOffered},
     nullptr,
     "KVM's VMCS has no such fields"},
    {{"I176", "26.3.1.3", "GDTR base", "must be canonical", Exit33, Processor},
     [](VmxCheck& c) { c.canonical(F::GuestGdtrBase); }},
    {{"I177", "26.3.1.3", "IDTR base", "must be canonical", Exit33, Processor},
     [](VmxCheck& c) { c.canonical(F::GuestIdtrBase); }},
    {{"I178", "26.3.1.3", "GDTR limit", "must have bits 31:16 clear", Exit33, Processor},
     [](VmxCheck& c) { c.no_bits(F::GuestGdtrLimit, 0xffff0000); }},
    {{"I179", "26.3.1.3", "IDTR limit", "must have bits 31:16 clear", Exit33, Processor},
     [](VmxCheck& c) { c.no_bits(F::GuestIdtrLimit, 0xffff0000); }},
    {{"I180", "26.3.1.4", "RIP", "must have bits 63:32 clear outside 64-bit code", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (!guest64(c))
         c.no_bits(F::GuestRip, kHighHalf, "\"IA-32e mode guest\" and CS.L are not both 1");
     }},
    {{"I181", "26.3.1.4", "RIP", "must be a linear address of the processor in 64-bit code", Exit33,
      Processor},
     rip_in_64_bit_code},
    {{"I182", "26.3.1.4", "RFLAGS", "must have reserved bits clear, and bit 1 set", Exit33,
      Processor},
     [](VmxCheck& c) {
       c.no_bits(F::GuestRflags, ~low_mask(22) | 1 << 15 | 1 << 5 | 1 << 3, "reserved");
       if (!c.has(F::GuestRflags, 1)) c.violate(F::GuestRflags, "bit 1 = 1");
     }},
    {{"I183", "26.3.1.4", "RFLAGS.VM", "must be 0 in an IA-32e guest and in real mode", Exit33,
      Processor},
     [](VmxCheck& c) {
       if (!c.v8086()) return;
       if (c.ia32e_guest())
         c.violate(F::GuestRflags, "bit 17 (VM) = 0", "\"IA-32e mode guest\" is 1");
       else if (!guest_cr0(c, spec::CR0_PE))
         c.violate(F::GuestRflags, "bit 17 (VM) = 0", "CR0.PE is 0");
     }},
    {{"I184", "26.3.1.4", "RFLAGS.IF", "must be 1 for an external interrupt that is injected",
      Exit33, Processor},
     [](VmxCheck& c) {
       if (c.injected_type() == 0u && (c.get(F::GuestRflags) & spec::RFLAGS_IF) == 0)
         c.violate(F::GuestRflags, "bit 9 (IF) = 1",
                   fmt::format("external interrupt {} is injected", c.injected_vector()));
     }},
    {{"I185", "26.3.1.4", "SSP", "must have bits 63:32 clear outside 64-bit code", Exit33,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.on_entry(kEntryLoadCet) && !guest64(c)) c.no_bits(F::GuestSsp, kHighHalf);
     }},
};
constexpr std::size_t kRegisterRules = 21;  // the rest comes after the segments in the manual

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_guest_register_rules() {
  return std::span(kRules).first(kRegisterRules);
}

std::span<const CheckedRule<VmxCheck>> vmx_guest_pointer_rules() {
  return std::span(kRules).subspan(kRegisterRules);
}

}  // namespace vmm::nested
