// The host-state area (SDM 26.2.2 to 26.2.4).
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;
using F = VmcsField;

constexpr std::string_view kNoField = "KVM's VMCS has no such field";
constexpr std::uint64_t kHighHalf = ~std::uint64_t{0} << 32;

bool host64(const VmxCheck& c) { return c.on_exit(kHostAddressSpaceSize); }

void selector(VmxCheck& c, F field) { c.no_bits(field, 7, "RPL and TI"); }

void selector_not_null(VmxCheck& c, F field, std::string_view why) {
  if (c.get(field) == 0) c.violate(field, "not 0", std::string(why));
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I075", "26.2.2", "HOST_CR0", "must keep to IA32_VMX_CR0_FIXED0 and FIXED1", VmFail8,
      KvmNamed},
     [](VmxCheck& c) {
       c.fixed_bits(F::HostCr0, kMsrVmxCr0Fixed0, kMsrVmxCr0Fixed1, spec::CR0_NW | spec::CR0_CD);
     }},
    {{"I076", "26.2.2", "HOST_CR4", "must keep to IA32_VMX_CR4_FIXED0 and FIXED1", VmFail8,
      KvmNamed},
     [](VmxCheck& c) { c.fixed_bits(F::HostCr4, kMsrVmxCr4Fixed0, kMsrVmxCr4Fixed1, 0); }},
    {{"I077", "26.2.2", "HOST_CR3", "must be within MAXPHYADDR", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.cr3(F::HostCr3); }},
    {{"I078", "26.2.2", "HOST_CR4.CET", "needs CR0.WP", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if ((c.get(F::HostCr4) & spec::CR4_CET) != 0 && (c.get(F::HostCr0) & spec::CR0_WP) == 0)
         c.violate(F::HostCr0, "bit 16 (WP) = 1", "CET is 1 in the host CR4");
     }},
    {{"I079", "26.2.2", "HOST_SYSENTER_ESP", "must be canonical", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.canonical(F::HostSysenterEsp); }},
    {{"I080", "26.2.2", "HOST_SYSENTER_EIP", "must be canonical", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.canonical(F::HostSysenterEip); }},
    {{"I081", "26.2.2", "HOST_PERF_GLOBAL_CTRL", "must have reserved bits clear if it is loaded",
      VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (c.on_exit(kExitLoadPerfGlobalCtrl)) c.perf_global_reserved(F::HostPerfGlobalCtrl);
     }},
    {{"I082", "26.2.2", "HOST_PAT", "must hold memory types if it is loaded", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (c.on_exit(kExitLoadPat)) c.pat(F::HostPat);
     }},
    {{"I083", "26.2.2", "HOST_EFER", "must have reserved bits clear if it is loaded", VmFail8,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.on_exit(kExitLoadEfer)) c.efer_reserved(F::HostEfer);
     }},
    {{"I084", "26.2.2", "HOST_EFER.LMA, LME", "must be as \"host address-space size\" if loaded",
      VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (!c.on_exit(kExitLoadEfer)) return;
       const std::uint64_t wanted = host64(c) ? spec::EFER_LMA | spec::EFER_LME : 0;
       if ((c.get(F::HostEfer) & (spec::EFER_LMA | spec::EFER_LME)) != wanted)
         c.violate(F::HostEfer, fmt::format("LMA (10) and LME (8) = {}", host64(c) ? 1 : 0),
                   fmt::format("\"host address-space size\" is {}", host64(c) ? 1 : 0));
     }},
    {{"I085", "26.2.2", "HOST_S_CET", "must be valid if CET state is loaded", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (c.on_exit(kExitLoadCet)) c.s_cet(F::HostSCet);
     }},
    {{"I086", "26.2.2", "HOST_SSP", "must be 4-byte aligned and canonical if CET state is loaded",
      VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (!c.on_exit(kExitLoadCet)) return;
       c.no_bits(F::HostSsp, 3);
       c.canonical(F::HostSsp);
       if (!host64(c)) c.no_bits(F::HostSsp, kHighHalf, "\"host address-space size\" is 0");
     }},
    {{"I087", "26.2.2", "HOST_SSP_TABLE", "must be canonical if CET state is loaded", VmFail8,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.on_exit(kExitLoadCet)) c.canonical(F::HostSspTbl);
     }},
    {{"I088", "26.2.2", "HOST_PKRS", "must have bits 63:32 clear if it is loaded", VmFail8,
      NotOffered},
     nullptr,
     kNoField},
    {{"I089", "26.2.2", "HOST FRED MSRs", "must be valid if they are loaded", VmFail8, NotOffered},
     nullptr,
     kNoField},
    {{"I090", "26.2.3", "HOST_CS selector", "must have RPL and TI clear", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector(c, F::HostCsSelector); }},
    {{"I091", "26.2.3", "HOST_SS selector", "must have RPL and TI clear", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector(c, F::HostSsSelector); }},
    {{"I092", "26.2.3", "HOST_DS selector", "must have RPL and TI clear", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector(c, F::HostDsSelector); }},
    {{"I093", "26.2.3", "HOST_ES selector", "must have RPL and TI clear", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector(c, F::HostEsSelector); }},
    {{"I094", "26.2.3", "HOST_FS selector", "must have RPL and TI clear", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector(c, F::HostFsSelector); }},
    {{"I095", "26.2.3", "HOST_GS selector", "must have RPL and TI clear", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector(c, F::HostGsSelector); }},
    {{"I096", "26.2.3", "HOST_TR selector", "must have RPL and TI clear", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector(c, F::HostTrSelector); }},
    {{"I097", "26.2.3", "HOST_CS selector", "must not be 0", VmFail8, KvmNamed},
     [](VmxCheck& c) { selector_not_null(c, F::HostCsSelector, ""); }},
    {{"I098", "26.2.3", "HOST_TR selector", "must not be 0", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       selector_not_null(c, F::HostTrSelector,
                         "as a loader leaves TR: the hypervisor needs a TSS of its own, and LTR");
     }},
    {{"I099", "26.2.3", "HOST_SS selector", "must not be 0 for a 32-bit host", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (!host64(c)) selector_not_null(c, F::HostSsSelector, "\"host address-space size\" is 0");
     }},
    {{"I100", "26.2.3", "HOST_FS_BASE", "must be canonical", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.canonical(F::HostFsBase); }},
    {{"I101", "26.2.3", "HOST_GS_BASE", "must be canonical", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.canonical(F::HostGsBase); }},
    {{"I102", "26.2.3", "HOST_TR_BASE", "must be canonical", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.canonical(F::HostTrBase); }},
    {{"I103", "26.2.3", "HOST_GDTR_BASE", "must be canonical", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.canonical(F::HostGdtrBase); }},
    {{"I104", "26.2.3", "HOST_IDTR_BASE", "must be canonical", VmFail8, KvmNamed},
     [](VmxCheck& c) { c.canonical(F::HostIdtrBase); }},
    {{"I105", "26.2.4", "address-space size", "must be that of the hypervisor", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (!c.entry.hypervisor) return c.findings.unknown("the hypervisor's EFER is not known");
       const bool ia32e = (c.entry.hypervisor->efer & spec::EFER_LMA) != 0;
       if (host64(c) != ia32e)
         c.violate(F::VmExitControls,
                   fmt::format("bit 9 (\"host address-space size\") = {}", ia32e ? 1 : 0),
                   fmt::format("EFER.LMA of the hypervisor is {}", ia32e ? 1 : 0));
       if (!ia32e && c.ia32e_guest())
         c.violate(F::VmEntryControls, "bit 9 (\"IA-32e mode guest\") = 0",
                   "EFER.LMA of the hypervisor is 0");
     }},
    {{"I106", "26.2.4", "64-bit host", "must have CR4.PAE", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (host64(c) && (c.get(F::HostCr4) & spec::CR4_PAE) == 0)
         c.violate(F::HostCr4, "bit 5 (PAE) = 1", "\"host address-space size\" is 1");
     }},
    {{"I107", "26.2.4", "64-bit host", "must have a canonical RIP", VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (host64(c)) c.canonical(F::HostRip);
     }},
    {{"I108", "26.2.4", "32-bit host", "must have a 32-bit guest, no CR4.PCIDE and a 32-bit RIP",
      VmFail8, KvmNamed},
     [](VmxCheck& c) {
       if (host64(c)) return;
       const std::string why = "\"host address-space size\" is 0";
       if (c.ia32e_guest()) c.violate(F::VmEntryControls, "bit 9 (\"IA-32e mode guest\") = 0", why);
       c.no_bits(F::HostCr4, spec::CR4_PCIDE, why);
       c.no_bits(F::HostRip, kHighHalf, why);
     }},
};

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_host_rules() { return kRules; }

}  // namespace vmm::nested
