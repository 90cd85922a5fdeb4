// The fields of a VMCS: names and encodings of SDM Vol. 3D appendix B, and where KVM keeps each of
// a guest hypervisor's in its vmcs12, a layout that KVM promises never to change.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vmm::nested {

// By encoding. All that KVM has; of 64-bit fields the whole, not the high half.
enum class VmcsField : std::uint16_t {
  // B.1: 16-bit control fields
  Vpid = 0x0000,
  PostedIntrNotificationVector = 0x0002,
  // B.1: 16-bit guest-state fields
  GuestEsSelector = 0x0800,
  GuestCsSelector = 0x0802,
  GuestSsSelector = 0x0804,
  GuestDsSelector = 0x0806,
  GuestFsSelector = 0x0808,
  GuestGsSelector = 0x080a,
  GuestLdtrSelector = 0x080c,
  GuestTrSelector = 0x080e,
  GuestIntrStatus = 0x0810,
  GuestPmlIndex = 0x0812,
  // B.1: 16-bit host-state fields
  HostEsSelector = 0x0c00,
  HostCsSelector = 0x0c02,
  HostSsSelector = 0x0c04,
  HostDsSelector = 0x0c06,
  HostFsSelector = 0x0c08,
  HostGsSelector = 0x0c0a,
  HostTrSelector = 0x0c0c,
  // B.2: 64-bit control fields
  IoBitmapA = 0x2000,
  IoBitmapB = 0x2002,
  MsrBitmap = 0x2004,
  VmExitMsrStoreAddress = 0x2006,
  VmExitMsrLoadAddress = 0x2008,
  VmEntryMsrLoadAddress = 0x200a,
  PmlAddress = 0x200e,
  TscOffset = 0x2010,
  VirtualApicPageAddress = 0x2012,
  ApicAccessAddress = 0x2014,
  PostedIntrDescAddress = 0x2016,
  VmFunctionControl = 0x2018,
  EptPointer = 0x201a,
  EoiExitBitmap0 = 0x201c,
  EoiExitBitmap1 = 0x201e,
  EoiExitBitmap2 = 0x2020,
  EoiExitBitmap3 = 0x2022,
  EptpListAddress = 0x2024,
  VmreadBitmap = 0x2026,
  VmwriteBitmap = 0x2028,
  XssExitBitmap = 0x202c,
  EnclsExitingBitmap = 0x202e,
  TscMultiplier = 0x2032,
  // B.2: 64-bit read-only data fields
  GuestPhysicalAddress = 0x2400,
  // B.2: 64-bit guest-state fields
  VmcsLinkPointer = 0x2800,
  GuestDebugctl = 0x2802,
  GuestPat = 0x2804,
  GuestEfer = 0x2806,
  GuestPerfGlobalCtrl = 0x2808,
  GuestPdpte0 = 0x280a,
  GuestPdpte1 = 0x280c,
  GuestPdpte2 = 0x280e,
  GuestPdpte3 = 0x2810,
  GuestBndcfgs = 0x2812,
  // B.2: 64-bit host-state fields
  HostPat = 0x2c00,
  HostEfer = 0x2c02,
  HostPerfGlobalCtrl = 0x2c04,
  // B.3: 32-bit control fields
  PinBasedControls = 0x4000,
  ProcBasedControls = 0x4002,
  ExceptionBitmap = 0x4004,
  PageFaultErrorCodeMask = 0x4006,
  PageFaultErrorCodeMatch = 0x4008,
  Cr3TargetCount = 0x400a,
  VmExitControls = 0x400c,
  VmExitMsrStoreCount = 0x400e,
  VmExitMsrLoadCount = 0x4010,
  VmEntryControls = 0x4012,
  VmEntryMsrLoadCount = 0x4014,
  VmEntryIntrInfo = 0x4016,
  VmEntryExceptionErrorCode = 0x4018,
  VmEntryInstructionLen = 0x401a,
  TprThreshold = 0x401c,
  ProcBasedControls2 = 0x401e,
  // B.3: 32-bit read-only data fields
  VmInstructionError = 0x4400,
  VmExitReason = 0x4402,
  VmExitIntrInfo = 0x4404,
  VmExitIntrErrorCode = 0x4406,
  IdtVectoringInfo = 0x4408,
  IdtVectoringErrorCode = 0x440a,
  VmExitInstructionLen = 0x440c,
  VmxInstructionInfo = 0x440e,
  // B.3: 32-bit guest-state fields
  GuestEsLimit = 0x4800,
  GuestCsLimit = 0x4802,
  GuestSsLimit = 0x4804,
  GuestDsLimit = 0x4806,
  GuestFsLimit = 0x4808,
  GuestGsLimit = 0x480a,
  GuestLdtrLimit = 0x480c,
  GuestTrLimit = 0x480e,
  GuestGdtrLimit = 0x4810,
  GuestIdtrLimit = 0x4812,
  GuestEsAccessRights = 0x4814,
  GuestCsAccessRights = 0x4816,
  GuestSsAccessRights = 0x4818,
  GuestDsAccessRights = 0x481a,
  GuestFsAccessRights = 0x481c,
  GuestGsAccessRights = 0x481e,
  GuestLdtrAccessRights = 0x4820,
  GuestTrAccessRights = 0x4822,
  GuestInterruptibility = 0x4824,
  GuestActivityState = 0x4826,
  GuestSysenterCs = 0x482a,
  VmxPreemptionTimerValue = 0x482e,
  // B.3: 32-bit host-state fields
  HostSysenterCs = 0x4c00,
  // B.4: natural-width control fields
  Cr0GuestHostMask = 0x6000,
  Cr4GuestHostMask = 0x6002,
  Cr0ReadShadow = 0x6004,
  Cr4ReadShadow = 0x6006,
  Cr3TargetValue0 = 0x6008,
  Cr3TargetValue1 = 0x600a,
  Cr3TargetValue2 = 0x600c,
  Cr3TargetValue3 = 0x600e,
  // B.4: natural-width read-only data fields
  ExitQualification = 0x6400,
  GuestLinearAddress = 0x640a,
  // B.4: natural-width guest-state fields
  GuestCr0 = 0x6800,
  GuestCr3 = 0x6802,
  GuestCr4 = 0x6804,
  GuestEsBase = 0x6806,
  GuestCsBase = 0x6808,
  GuestSsBase = 0x680a,
  GuestDsBase = 0x680c,
  GuestFsBase = 0x680e,
  GuestGsBase = 0x6810,
  GuestLdtrBase = 0x6812,
  GuestTrBase = 0x6814,
  GuestGdtrBase = 0x6816,
  GuestIdtrBase = 0x6818,
  GuestDr7 = 0x681a,
  GuestRsp = 0x681c,
  GuestRip = 0x681e,
  GuestRflags = 0x6820,
  GuestPendingDebug = 0x6822,
  GuestSysenterEsp = 0x6824,
  GuestSysenterEip = 0x6826,
  GuestSCet = 0x6828,
  GuestSsp = 0x682a,
  GuestSspTbl = 0x682c,
  // B.4: natural-width host-state fields
  HostCr0 = 0x6c00,
  HostCr3 = 0x6c02,
  HostCr4 = 0x6c04,
  HostFsBase = 0x6c06,
  HostGsBase = 0x6c08,
  HostTrBase = 0x6c0a,
  HostGdtrBase = 0x6c0c,
  HostIdtrBase = 0x6c0e,
  HostSysenterEsp = 0x6c10,
  HostSysenterEip = 0x6c12,
  HostRsp = 0x6c14,
  HostRip = 0x6c16,
  HostSCet = 0x6c18,
  HostSsp = 0x6c1a,
  HostSspTbl = 0x6c1c,
};

// Bits 11:10 of an encoding.
enum class VmcsFieldType : std::uint8_t { Control, ReadOnly, GuestState, HostState };

struct VmcsFieldInfo {
  VmcsField field;
  std::uint16_t offset;  // in vmcs12
  std::uint8_t bytes;    // 2, 4 or 8 there
  std::string_view name;
  // Before this kernel the place is padding, written as zeroes; empty: as far back as it matters.
  std::string_view since = {};

  std::uint16_t encoding() const { return static_cast<std::uint16_t>(field); }
  VmcsFieldType type() const { return static_cast<VmcsFieldType>((encoding() >> 10) & 3); }
};

// By encoding, lowest first.
std::span<const VmcsFieldInfo> vmcs_fields();
const VmcsFieldInfo& vmcs_field(VmcsField field);
// The field of an encoding, also of the high half of a 64-bit one (SDM 24.11.2); nothing for one
// that KVM does not have.
const VmcsFieldInfo* find_vmcs_field(std::uint32_t encoding);
// By SDM name (case does not matter) or encoding in hexadecimal.
const VmcsFieldInfo* find_vmcs_field(std::string_view text);
// "Host TR selector (0C0Ch)".
std::string vmcs_field_text(VmcsField field);

}  // namespace vmm::nested
