#include "vmm/nested/vmcs_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "vmm/base/check.h"
#include "vmm/base/text.h"

namespace vmm::nested {
namespace {

constexpr VmcsFieldInfo kFields[] = {
    {VmcsField::Vpid, 960, 2, "Virtual-processor identifier (VPID)"},
    {VmcsField::PostedIntrNotificationVector, 962, 2, "Posted-interrupt notification vector"},
    {VmcsField::GuestEsSelector, 964, 2, "Guest ES selector"},
    {VmcsField::GuestCsSelector, 966, 2, "Guest CS selector"},
    {VmcsField::GuestSsSelector, 968, 2, "Guest SS selector"},
    {VmcsField::GuestDsSelector, 970, 2, "Guest DS selector"},
    {VmcsField::GuestFsSelector, 972, 2, "Guest FS selector"},
    {VmcsField::GuestGsSelector, 974, 2, "Guest GS selector"},
    {VmcsField::GuestLdtrSelector, 976, 2, "Guest LDTR selector"},
    {VmcsField::GuestTrSelector, 978, 2, "Guest TR selector"},
    {VmcsField::GuestIntrStatus, 980, 2, "Guest interrupt status"},
    {VmcsField::GuestPmlIndex, 996, 2, "PML index"},
    {VmcsField::HostEsSelector, 982, 2, "Host ES selector"},
    {VmcsField::HostCsSelector, 984, 2, "Host CS selector"},
    {VmcsField::HostSsSelector, 986, 2, "Host SS selector"},
    {VmcsField::HostDsSelector, 988, 2, "Host DS selector"},
    {VmcsField::HostFsSelector, 990, 2, "Host FS selector"},
    {VmcsField::HostGsSelector, 992, 2, "Host GS selector"},
    {VmcsField::HostTrSelector, 994, 2, "Host TR selector"},
    {VmcsField::IoBitmapA, 40, 8, "Address of I/O bitmap A"},
    {VmcsField::IoBitmapB, 48, 8, "Address of I/O bitmap B"},
    {VmcsField::MsrBitmap, 56, 8, "Address of MSR bitmaps"},
    {VmcsField::VmExitMsrStoreAddress, 64, 8, "VM-exit MSR-store address"},
    {VmcsField::VmExitMsrLoadAddress, 72, 8, "VM-exit MSR-load address"},
    {VmcsField::VmEntryMsrLoadAddress, 80, 8, "VM-entry MSR-load address"},
    {VmcsField::PmlAddress, 312, 8, "PML address"},
    {VmcsField::TscOffset, 88, 8, "TSC offset"},
    {VmcsField::VirtualApicPageAddress, 96, 8, "Virtual-APIC address"},
    {VmcsField::ApicAccessAddress, 104, 8, "APIC-access address"},
    {VmcsField::PostedIntrDescAddress, 112, 8, "Posted-interrupt descriptor address"},
    {VmcsField::VmFunctionControl, 296, 8, "VM-function controls"},
    {VmcsField::EptPointer, 120, 8, "EPT pointer"},
    {VmcsField::EoiExitBitmap0, 128, 8, "EOI-exit bitmap 0"},
    {VmcsField::EoiExitBitmap1, 136, 8, "EOI-exit bitmap 1"},
    {VmcsField::EoiExitBitmap2, 144, 8, "EOI-exit bitmap 2"},
    {VmcsField::EoiExitBitmap3, 152, 8, "EOI-exit bitmap 3"},
    {VmcsField::EptpListAddress, 304, 8, "EPTP-list address"},
    {VmcsField::VmreadBitmap, 280, 8, "VMREAD-bitmap address"},
    {VmcsField::VmwriteBitmap, 288, 8, "VMWRITE-bitmap address"},
    {VmcsField::XssExitBitmap, 160, 8, "XSS-exiting bitmap"},
    {VmcsField::EnclsExitingBitmap, 320, 8, "ENCLS-exiting bitmap", "5.10"},
    {VmcsField::TscMultiplier, 328, 8, "TSC multiplier", "5.14"},
    {VmcsField::GuestPhysicalAddress, 168, 8, "Guest-physical address"},
    {VmcsField::VmcsLinkPointer, 176, 8, "VMCS link pointer"},
    {VmcsField::GuestDebugctl, 184, 8, "Guest IA32_DEBUGCTL"},
    {VmcsField::GuestPat, 192, 8, "Guest IA32_PAT"},
    {VmcsField::GuestEfer, 200, 8, "Guest IA32_EFER"},
    {VmcsField::GuestPerfGlobalCtrl, 208, 8, "Guest IA32_PERF_GLOBAL_CTRL"},
    {VmcsField::GuestPdpte0, 216, 8, "Guest PDPTE0"},
    {VmcsField::GuestPdpte1, 224, 8, "Guest PDPTE1"},
    {VmcsField::GuestPdpte2, 232, 8, "Guest PDPTE2"},
    {VmcsField::GuestPdpte3, 240, 8, "Guest PDPTE3"},
    {VmcsField::GuestBndcfgs, 248, 8, "Guest IA32_BNDCFGS"},
    {VmcsField::HostPat, 256, 8, "Host IA32_PAT"},
    {VmcsField::HostEfer, 264, 8, "Host IA32_EFER"},
    {VmcsField::HostPerfGlobalCtrl, 272, 8, "Host IA32_PERF_GLOBAL_CTRL"},
    {VmcsField::PinBasedControls, 744, 4, "Pin-based VM-execution controls"},
    {VmcsField::ProcBasedControls, 748, 4, "Primary processor-based VM-execution controls"},
    {VmcsField::ExceptionBitmap, 752, 4, "Exception bitmap"},
    {VmcsField::PageFaultErrorCodeMask, 756, 4, "Page-fault error-code mask"},
    {VmcsField::PageFaultErrorCodeMatch, 760, 4, "Page-fault error-code match"},
    {VmcsField::Cr3TargetCount, 764, 4, "CR3-target count"},
    {VmcsField::VmExitControls, 768, 4, "Primary VM-exit controls"},
    {VmcsField::VmExitMsrStoreCount, 772, 4, "VM-exit MSR-store count"},
    {VmcsField::VmExitMsrLoadCount, 776, 4, "VM-exit MSR-load count"},
    {VmcsField::VmEntryControls, 780, 4, "VM-entry controls"},
    {VmcsField::VmEntryMsrLoadCount, 784, 4, "VM-entry MSR-load count"},
    {VmcsField::VmEntryIntrInfo, 788, 4, "VM-entry interruption-information field"},
    {VmcsField::VmEntryExceptionErrorCode, 792, 4, "VM-entry exception error code"},
    {VmcsField::VmEntryInstructionLen, 796, 4, "VM-entry instruction length"},
    {VmcsField::TprThreshold, 800, 4, "TPR threshold"},
    {VmcsField::ProcBasedControls2, 804, 4, "Secondary processor-based VM-execution controls"},
    {VmcsField::VmInstructionError, 808, 4, "VM-instruction error"},
    {VmcsField::VmExitReason, 812, 4, "Exit reason"},
    {VmcsField::VmExitIntrInfo, 816, 4, "VM-exit interruption information"},
    {VmcsField::VmExitIntrErrorCode, 820, 4, "VM-exit interruption error code"},
    {VmcsField::IdtVectoringInfo, 824, 4, "IDT-vectoring information field"},
    {VmcsField::IdtVectoringErrorCode, 828, 4, "IDT-vectoring error code"},
    {VmcsField::VmExitInstructionLen, 832, 4, "VM-exit instruction length"},
    {VmcsField::VmxInstructionInfo, 836, 4, "VM-exit instruction information"},
    {VmcsField::GuestEsLimit, 840, 4, "Guest ES limit"},
    {VmcsField::GuestCsLimit, 844, 4, "Guest CS limit"},
    {VmcsField::GuestSsLimit, 848, 4, "Guest SS limit"},
    {VmcsField::GuestDsLimit, 852, 4, "Guest DS limit"},
    {VmcsField::GuestFsLimit, 856, 4, "Guest FS limit"},
    {VmcsField::GuestGsLimit, 860, 4, "Guest GS limit"},
    {VmcsField::GuestLdtrLimit, 864, 4, "Guest LDTR limit"},
    {VmcsField::GuestTrLimit, 868, 4, "Guest TR limit"},
    {VmcsField::GuestGdtrLimit, 872, 4, "Guest GDTR limit"},
    {VmcsField::GuestIdtrLimit, 876, 4, "Guest IDTR limit"},
    {VmcsField::GuestEsAccessRights, 880, 4, "Guest ES access rights"},
    {VmcsField::GuestCsAccessRights, 884, 4, "Guest CS access rights"},
    {VmcsField::GuestSsAccessRights, 888, 4, "Guest SS access rights"},
    {VmcsField::GuestDsAccessRights, 892, 4, "Guest DS access rights"},
    {VmcsField::GuestFsAccessRights, 896, 4, "Guest FS access rights"},
    {VmcsField::GuestGsAccessRights, 900, 4, "Guest GS access rights"},
    {VmcsField::GuestLdtrAccessRights, 904, 4, "Guest LDTR access rights"},
    {VmcsField::GuestTrAccessRights, 908, 4, "Guest TR access rights"},
    {VmcsField::GuestInterruptibility, 912, 4, "Guest interruptibility state"},
    {VmcsField::GuestActivityState, 916, 4, "Guest activity state"},
    {VmcsField::GuestSysenterCs, 920, 4, "Guest IA32_SYSENTER_CS"},
    {VmcsField::VmxPreemptionTimerValue, 928, 4, "VMX-preemption timer value"},
    {VmcsField::HostSysenterCs, 924, 4, "Host IA32_SYSENTER_CS"},
    {VmcsField::Cr0GuestHostMask, 344, 8, "CR0 guest/host mask"},
    {VmcsField::Cr4GuestHostMask, 352, 8, "CR4 guest/host mask"},
    {VmcsField::Cr0ReadShadow, 360, 8, "CR0 read shadow"},
    {VmcsField::Cr4ReadShadow, 368, 8, "CR4 read shadow"},
    {VmcsField::Cr3TargetValue0, 376, 8, "CR3-target value 0"},
    {VmcsField::Cr3TargetValue1, 384, 8, "CR3-target value 1"},
    {VmcsField::Cr3TargetValue2, 392, 8, "CR3-target value 2"},
    {VmcsField::Cr3TargetValue3, 400, 8, "CR3-target value 3"},
    {VmcsField::ExitQualification, 408, 8, "Exit qualification"},
    {VmcsField::GuestLinearAddress, 416, 8, "Guest-linear address"},
    {VmcsField::GuestCr0, 424, 8, "Guest CR0"},
    {VmcsField::GuestCr3, 432, 8, "Guest CR3"},
    {VmcsField::GuestCr4, 440, 8, "Guest CR4"},
    {VmcsField::GuestEsBase, 448, 8, "Guest ES base"},
    {VmcsField::GuestCsBase, 456, 8, "Guest CS base"},
    {VmcsField::GuestSsBase, 464, 8, "Guest SS base"},
    {VmcsField::GuestDsBase, 472, 8, "Guest DS base"},
    {VmcsField::GuestFsBase, 480, 8, "Guest FS base"},
    {VmcsField::GuestGsBase, 488, 8, "Guest GS base"},
    {VmcsField::GuestLdtrBase, 496, 8, "Guest LDTR base"},
    {VmcsField::GuestTrBase, 504, 8, "Guest TR base"},
    {VmcsField::GuestGdtrBase, 512, 8, "Guest GDTR base"},
    {VmcsField::GuestIdtrBase, 520, 8, "Guest IDTR base"},
    {VmcsField::GuestDr7, 528, 8, "Guest DR7"},
    {VmcsField::GuestRsp, 536, 8, "Guest RSP"},
    {VmcsField::GuestRip, 544, 8, "Guest RIP"},
    {VmcsField::GuestRflags, 552, 8, "Guest RFLAGS"},
    {VmcsField::GuestPendingDebug, 560, 8, "Guest pending debug exceptions"},
    {VmcsField::GuestSysenterEsp, 568, 8, "Guest IA32_SYSENTER_ESP"},
    {VmcsField::GuestSysenterEip, 576, 8, "Guest IA32_SYSENTER_EIP"},
    {VmcsField::GuestSCet, 704, 8, "Guest IA32_S_CET", "6.18"},
    {VmcsField::GuestSsp, 712, 8, "Guest SSP", "6.18"},
    {VmcsField::GuestSspTbl, 720, 8, "Guest IA32_INTERRUPT_SSP_TABLE_ADDR", "6.18"},
    {VmcsField::HostCr0, 584, 8, "Host CR0"},
    {VmcsField::HostCr3, 592, 8, "Host CR3"},
    {VmcsField::HostCr4, 600, 8, "Host CR4"},
    {VmcsField::HostFsBase, 608, 8, "Host FS base"},
    {VmcsField::HostGsBase, 616, 8, "Host GS base"},
    {VmcsField::HostTrBase, 624, 8, "Host TR base"},
    {VmcsField::HostGdtrBase, 632, 8, "Host GDTR base"},
    {VmcsField::HostIdtrBase, 640, 8, "Host IDTR base"},
    {VmcsField::HostSysenterEsp, 648, 8, "Host IA32_SYSENTER_ESP"},
    {VmcsField::HostSysenterEip, 656, 8, "Host IA32_SYSENTER_EIP"},
    {VmcsField::HostRsp, 664, 8, "Host RSP"},
    {VmcsField::HostRip, 672, 8, "Host RIP"},
    {VmcsField::HostSCet, 680, 8, "Host IA32_S_CET", "6.18"},
    {VmcsField::HostSsp, 688, 8, "Host SSP", "6.18"},
    {VmcsField::HostSspTbl, 696, 8, "Host IA32_INTERRUPT_SSP_TABLE_ADDR", "6.18"},
};

}  // namespace

std::span<const VmcsFieldInfo> vmcs_fields() { return kFields; }

const VmcsFieldInfo* find_vmcs_field(std::uint32_t encoding) {
  // Bit 0 asks for the high half, of fields of 64 bits alone (width 1 in bits 14:13).
  if ((encoding & 1) != 0 && ((encoding >> 13) & 3) == 1) encoding &= ~1u;
  const auto* at = std::ranges::lower_bound(kFields, encoding, {},
                                            [](const VmcsFieldInfo& f) { return f.encoding(); });
  return at != std::end(kFields) && at->encoding() == encoding ? at : nullptr;
}

const VmcsFieldInfo& vmcs_field(VmcsField field) {
  const VmcsFieldInfo* found = find_vmcs_field(static_cast<std::uint32_t>(field));
  VMM_CHECK(found != nullptr, "every enumerator has its row");
  return *found;
}

const VmcsFieldInfo* find_vmcs_field(std::string_view text) {
  const std::string wanted = lower(text);
  for (const VmcsFieldInfo& info : kFields)
    if (lower(info.name) == wanted) return &info;
  std::string_view digits = text;
  if (digits.starts_with("0x")) digits.remove_prefix(2);
  if (digits.ends_with("h") || digits.ends_with("H")) digits.remove_suffix(1);
  std::uint32_t encoding = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), encoding, 16);
  if (error != std::errc{} || end != digits.data() + digits.size()) return nullptr;
  return find_vmcs_field(encoding);
}

std::string vmcs_field_text(VmcsField field) {
  const VmcsFieldInfo& info = vmcs_field(field);
  return fmt::format("{} ({:04X}h)", info.name, info.encoding());
}

}  // namespace vmm::nested
