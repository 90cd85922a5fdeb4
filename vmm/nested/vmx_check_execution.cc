// The VM-execution control fields (SDM 26.2.1.1).
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;
using F = VmcsField;

constexpr std::string_view kNoField = "KVM's VMCS has no such field";

// `control` of `field` is 1 and may not be, since `why`.
void must_be_clear(VmxCheck& c, F field, unsigned control, std::string_view why) {
  if (!c.has(field, control)) return;
  c.violate(field, fmt::format("bit {} (\"{}\") = 0", control, control_name(field, control)),
            std::string(why))
      .bits = 1ull << control;
}

// `control` of `field` is 0 and may not be, since `why`.
void must_be_set(VmxCheck& c, F field, unsigned control, std::string_view why) {
  if (c.has(field, control)) return;
  c.violate(field, fmt::format("bit {} (\"{}\") = 1", control, control_name(field, control)),
            std::string(why))
      .bits = 1ull << control;
}

void needs_ept(VmxCheck& c, unsigned control) {
  if (c.secondary(control))
    must_be_set(c, F::ProcBasedControls2, kEnableEpt,
                fmt::format("\"{}\" is 1", control_name(F::ProcBasedControls2, control)));
}

bool eptp_switching(VmxCheck& c) {
  return c.secondary(kEnableVmFunctions) && c.has(F::VmFunctionControl, 0);
}

// The threshold against bits 7:4 of VTPR, at 80h of the virtual-APIC page.
void threshold_against_vtpr(VmxCheck& c) {
  if (!c.primary(kUseTprShadow) || c.secondary(kVirtualizeApicAccesses) ||
      c.secondary(kVirtualInterruptDelivery))
    return;
  const std::uint64_t page = c.get(F::VirtualApicPageAddress);
  if (c.entry.memory == nullptr)
    return c.findings.unknown("the virtual-APIC page is not known: no memory");
  const auto vtpr = c.entry.memory->read_value<std::uint8_t>((page & ~std::uint64_t{0xfff}) + 0x80);
  if (!vtpr)
    return c.findings.unknown(fmt::format("the virtual-APIC page at {:X}h is not RAM", page));
  if (bits(c.get(F::TprThreshold), 3, 0) > *vtpr >> 4)
    c.violate(F::TprThreshold, fmt::format("bits 3:0 at most {}", *vtpr >> 4),
              fmt::format("VTPR at {:X}h is {:02X}h", page + 0x80, *vtpr));
}

void ept_memory_type(VmxCheck& c) {
  if (!c.secondary(kEnableEpt)) return;
  const auto caps = c.capability(kMsrVmxEptVpid);
  if (!caps) return;
  const std::uint64_t type = bits(c.get(F::EptPointer), 2, 0);
  if ((type == 0 && bit(*caps, 8)) || (type == 6 && bit(*caps, 14))) return;
  const bool known = type == 0 || type == 6;
  Violation& v = c.violate(F::EptPointer,
                           fmt::format("bits 2:0 ={}{}", bit(*caps, 8) ? " 0 (UC)" : "",
                                       bit(*caps, 14) ? " 6 (WB)" : ""),
                           fmt::format("{} is {:X}h", vmx_msr_text(kMsrVmxEptVpid), *caps));
  if (!known) return;
  v.msr = kMsrVmxEptVpid;
  v.msr_bit = type == 0 ? 8 : 14;
}

void ept_walk_length(VmxCheck& c) {
  if (!c.secondary(kEnableEpt)) return;
  const auto caps = c.capability(kMsrVmxEptVpid);
  if (!caps) return;
  const std::uint64_t length = bits(c.get(F::EptPointer), 5, 3);
  if ((length == 3 && bit(*caps, 6)) || (length == 4 && bit(*caps, 7))) return;
  Violation& v = c.violate(F::EptPointer,
                           fmt::format("bits 5:3 ={}{}", bit(*caps, 6) ? " 3 (4 levels)" : "",
                                       bit(*caps, 7) ? " 4 (5 levels)" : ""),
                           fmt::format("{} is {:X}h", vmx_msr_text(kMsrVmxEptVpid), *caps));
  if (length != 3 && length != 4) return;
  v.msr = kMsrVmxEptVpid;
  v.msr_bit = length == 3 ? 6 : 7;
}

// A bit of the EPT pointer that one of IA32_VMX_EPT_VPID_CAP permits.
void ept_feature(VmxCheck& c, unsigned index, unsigned cap) {
  if (!c.secondary(kEnableEpt)) return;
  const auto caps = c.capability(kMsrVmxEptVpid);
  if (!caps || !c.has(F::EptPointer, index) || bit(*caps, cap)) return;
  Violation& v = c.violate(F::EptPointer, fmt::format("bit {} = 0", index),
                           fmt::format("{}[{}] is 0", vmx_msr_text(kMsrVmxEptVpid), cap));
  v.bits = 1ull << index;
  v.msr = kMsrVmxEptVpid;
  v.msr_bit = cap;
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I009", "26.2.1.1", "PIN_BASED", "must keep to its allowed settings", VmFail7, KvmNamed},
     [](VmxCheck& c) { c.allowed_settings(F::PinBasedControls); }},
    {{"I010", "26.2.1.1", "CPU_BASED", "must keep to its allowed settings", VmFail7, KvmNamed},
     [](VmxCheck& c) { c.allowed_settings(F::ProcBasedControls); }},
    {{"I011", "26.2.1.1", "SECONDARY", "must keep to its allowed settings", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.primary(kActivateSecondary)) c.allowed_settings(F::ProcBasedControls2);
     }},
    {{"I012", "26.2.1.1", "TERTIARY", "must keep to its allowed settings", VmFail7, NotOffered},
     nullptr,
     kNoField},
    {{"I013", "26.2.1.1", "CR3_TARGET_COUNT", "must not pass IA32_VMX_MISC[24:16]", VmFail7,
      KvmNamed},
     [](VmxCheck& c) {
       const auto misc = c.capability(kMsrVmxMisc);
       if (misc && c.get(F::Cr3TargetCount) > bits(*misc, 24, 16))
         c.violate(F::Cr3TargetCount, fmt::format("at most {}", bits(*misc, 24, 16)),
                   fmt::format("{} is {:X}h", vmx_msr_text(kMsrVmxMisc), *misc));
     }},
    {{"I014", "26.2.1.1", "IO_BITMAP_A",
      "must be a page of physical memory if I/O bitmaps are used", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.primary(kUseIoBitmaps)) c.physical(F::IoBitmapA, 4096);
     }},
    {{"I015", "26.2.1.1", "IO_BITMAP_B",
      "must be a page of physical memory if I/O bitmaps are used", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.primary(kUseIoBitmaps)) c.physical(F::IoBitmapB, 4096);
     }},
    {{"I016", "26.2.1.1", "MSR_BITMAP", "must be a page of physical memory if MSR bitmaps are used",
      VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.primary(kUseMsrBitmaps)) c.physical(F::MsrBitmap, 4096);
     }},
    {{"I017", "26.2.1.1", "VIRTUAL_APIC_PAGE_ADDR",
      "must be a page of physical memory with a TPR shadow", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.primary(kUseTprShadow)) c.physical(F::VirtualApicPageAddress, 4096);
     }},
    {{"I018", "26.2.1.1", "TPR_THRESHOLD",
      "must have bits 31:4 clear with a TPR shadow and without virtual-interrupt delivery", VmFail7,
      Processor},
     [](VmxCheck& c) {
       if (c.primary(kUseTprShadow) && !c.secondary(kVirtualInterruptDelivery))
         c.no_bits(F::TprThreshold, 0xfffffff0, "\"use TPR shadow\" is 1");
     }},
    {{"I019", "26.2.1.1", "TPR_THRESHOLD", "must not pass VTPR[7:4] in the virtual-APIC page",
      VmFail7, Processor},
     threshold_against_vtpr},
    {{"I020", "26.2.1.1", "SECONDARY", "must not virtualize the APIC without a TPR shadow", VmFail7,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.primary(kUseTprShadow)) return;
       for (const unsigned control :
            {kVirtualizeX2apic, kApicRegisterVirtualization, kVirtualInterruptDelivery})
         if (c.secondary(control))
           must_be_clear(c, F::ProcBasedControls2, control, "\"use TPR shadow\" is 0");
     }},
    {{"I021", "26.2.1.1", "PIN_BASED", "must not have virtual NMIs without NMI exiting", VmFail7,
      KvmNamed},
     [](VmxCheck& c) {
       if (!c.pin(kNmiExiting))
         must_be_clear(c, F::PinBasedControls, kVirtualNmis, "\"NMI exiting\" is 0");
     }},
    {{"I022", "26.2.1.1", "CPU_BASED", "must not have NMI-window exiting without virtual NMIs",
      VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (!c.pin(kVirtualNmis))
         must_be_clear(c, F::ProcBasedControls, kNmiWindowExiting, "\"virtual NMIs\" is 0");
     }},
    {{"I023", "26.2.1.1", "APIC_ACCESS_ADDR",
      "must be a page of physical memory if APIC accesses are virtualized", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.secondary(kVirtualizeApicAccesses)) c.physical(F::ApicAccessAddress, 4096);
     }},
    {{"I024", "26.2.1.1", "SECONDARY", "must not virtualize both x2APIC mode and APIC accesses",
      VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.secondary(kVirtualizeX2apic) && c.secondary(kVirtualizeApicAccesses))
         must_be_clear(c, F::ProcBasedControls2, kVirtualizeApicAccesses,
                       "\"virtualize x2APIC mode\" is 1");
     }},
    {{"I025", "26.2.1.1", "PIN_BASED",
      "must have external-interrupt exiting with virtual-interrupt delivery", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.secondary(kVirtualInterruptDelivery))
         must_be_set(c, F::PinBasedControls, kExternalInterruptExiting,
                     "\"virtual-interrupt delivery\" is 1");
     }},
    {{"I026", "26.2.1.1", "SECONDARY",
      "must have virtual-interrupt delivery with posted interrupts", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (!c.pin(kPostedInterrupts) || c.secondary(kVirtualInterruptDelivery)) return;
       c.violate(F::ProcBasedControls2, "bit 9 (\"virtual-interrupt delivery\") = 1, and activated",
                 "\"process posted interrupts\" is 1");
     }},
    {{"I027", "26.2.1.1", "EXIT_CONTROLS",
      "must acknowledge interrupts on exit with posted interrupts", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.pin(kPostedInterrupts))
         must_be_set(c, F::VmExitControls, kAcknowledgeInterrupt,
                     "\"process posted interrupts\" is 1");
     }},
    {{"I028", "26.2.1.1", "POSTED_INTR_NV", "must have bits 15:8 clear", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.pin(kPostedInterrupts)) c.no_bits(F::PostedIntrNotificationVector, 0xff00);
     }},
    {{"I029", "26.2.1.1", "POSTED_INTR_DESC_ADDR", "must be a multiple of 64", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.pin(kPostedInterrupts)) c.no_bits(F::PostedIntrDescAddress, 0x3f);
     }},
    {{"I030", "26.2.1.1", "POSTED_INTR_DESC_ADDR", "must be within MAXPHYADDR", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.pin(kPostedInterrupts)) c.within_phys_bits(F::PostedIntrDescAddress);
     }},
    {{"I031", "26.2.1.1", "VPID", "must not be 0 if VPIDs are enabled", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.secondary(kEnableVpid) && c.get(F::Vpid) == 0)
         c.violate(F::Vpid, "not 0", "\"enable VPID\" is 1");
     }},
    {{"I032", "26.2.1.1", "EPTP[2:0]", "must be a memory type that the processor offers", VmFail7,
      KvmNamed},
     ept_memory_type},
    {{"I033", "26.2.1.1", "EPTP[5:3]", "must be a page-walk length that the processor offers",
      VmFail7, KvmNamed},
     ept_walk_length},
    {{"I034", "26.2.1.1", "EPTP[6]", "must be 0 without accessed and dirty flags for EPT", VmFail7,
      KvmNamed},
     [](VmxCheck& c) { ept_feature(c, 6, 21); }},
    {{"I035", "26.2.1.1", "EPTP[7]", "must be 0 without supervisor shadow-stack control", VmFail7,
      KvmNamed},
     [](VmxCheck& c) { ept_feature(c, 7, 23); }},
    {{"I036", "26.2.1.1", "EPTP[11:8], [63:MAXPHYADDR]", "must be 0", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (!c.secondary(kEnableEpt)) return;
       c.no_bits(F::EptPointer, 0xf00, "reserved");
       c.within_phys_bits(F::EptPointer);
     }},
    {{"I037", "26.2.1.1", "unrestricted guest", "needs EPT", VmFail7, KvmNamed},
     [](VmxCheck& c) { needs_ept(c, kUnrestrictedGuest); }},
    {{"I038", "26.2.1.1", "mode-based execute control", "needs EPT", VmFail7, KvmNamed},
     [](VmxCheck& c) { needs_ept(c, kModeBasedExecute); }},
    {{"I039", "26.2.1.1", "PML", "needs EPT", VmFail7, KvmNamed},
     [](VmxCheck& c) { needs_ept(c, kEnablePml); }},
    {{"I040", "26.2.1.1", "PML_ADDRESS", "must be a page of physical memory", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.secondary(kEnablePml)) c.physical(F::PmlAddress, 4096);
     }},
    {{"I041", "26.2.1.1", "sub-page write permissions", "need EPT and a table", VmFail7,
      NotOffered},
     nullptr,
     kNoField},
    {{"I042", "26.2.1.1", "VM-function controls", "must keep to IA32_VMX_VMFUNC", VmFail7,
      KvmNamed},
     [](VmxCheck& c) {
       if (!c.secondary(kEnableVmFunctions)) return;
       const auto allowed = c.capability(kMsrVmxVmFunc);
       if (allowed)
         c.no_bits(F::VmFunctionControl, ~*allowed,
                   fmt::format("{} is {:X}h", vmx_msr_text(kMsrVmxVmFunc), *allowed));
     }},
    {{"I043", "26.2.1.1", "EPTP switching", "needs EPT", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (eptp_switching(c))
         must_be_set(c, F::ProcBasedControls2, kEnableEpt, "\"EPTP switching\" is 1");
     }},
    {{"I044", "26.2.1.1", "EPTP_LIST_ADDRESS", "must be a page of physical memory", VmFail7,
      KvmNamed},
     [](VmxCheck& c) {
       if (eptp_switching(c)) c.physical(F::EptpListAddress, 4096);
     }},
    {{"I045", "26.2.1.1", "VMREAD_BITMAP", "must be a page of physical memory", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.secondary(kVmcsShadowing)) c.physical(F::VmreadBitmap, 4096);
     }},
    {{"I046", "26.2.1.1", "VMWRITE_BITMAP", "must be a page of physical memory", VmFail7, KvmNamed},
     [](VmxCheck& c) {
       if (c.secondary(kVmcsShadowing)) c.physical(F::VmwriteBitmap, 4096);
     }},
    {{"I047", "26.2.1.1", "#VE information address", "must be a page of physical memory", VmFail7,
      NotOffered},
     nullptr,
     kNoField},
    {{"I048", "26.2.1.1", "TSC multiplier", "must not be 0 if TSC scaling is used", VmFail7,
      Processor},
     [](VmxCheck& c) {
       if (c.secondary(kUseTscScaling) && c.get(F::TscMultiplier) == 0)
         c.violate(F::TscMultiplier, "not 0", "\"use TSC scaling\" is 1");
     }},
    {{"I049", "26.2.1.1", "Intel PT with guest physical addresses",
      "needs EPT and both IA32_RTIT_CTL controls", VmFail7, NotOffered},
     [](VmxCheck& c) {
       if (!c.secondary(24)) return;
       needs_ept(c, 24);
       must_be_set(c, F::VmEntryControls, 18, "\"Intel PT uses guest physical addresses\" is 1");
       must_be_set(c, F::VmExitControls, 25, "\"Intel PT uses guest physical addresses\" is 1");
     }},
    {{"I050", "26.2.1.1", "HLAT", "needs EPT and a table", VmFail7, NotOffered}, nullptr, kNoField},
    {{"I051", "26.2.1.1", "EPT paging-write and guest-paging verification", "need EPT", VmFail7,
      NotOffered},
     nullptr,
     kNoField},
    {{"I052", "26.2.1.1", "PID-pointer table", "must be 8-byte aligned and within MAXPHYADDR",
      VmFail7, NotOffered},
     nullptr,
     kNoField},
    {{"I053", "26.2.1.1", "PASID directories", "must be pages of physical memory", VmFail7,
      NotOffered},
     nullptr,
     kNoField},
};

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_execution_rules() { return kRules; }

}  // namespace vmm::nested
