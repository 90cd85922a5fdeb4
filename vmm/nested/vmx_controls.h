// The controls of a VMCS, bit by bit (SDM Vol. 3C 24.6 to 24.8), and the capability MSRs that say
// which may be 0 and which may be 1 (SDM Vol. 3D appendix A).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/nested/vmcs_fields.h"

namespace vmm::nested {

// Pin-based VM-execution controls.
constexpr unsigned kExternalInterruptExiting = 0;
constexpr unsigned kNmiExiting = 3;
constexpr unsigned kVirtualNmis = 5;
constexpr unsigned kPreemptionTimer = 6;
constexpr unsigned kPostedInterrupts = 7;
// Primary processor-based VM-execution controls.
constexpr unsigned kUseTprShadow = 21;
constexpr unsigned kNmiWindowExiting = 22;
constexpr unsigned kUseIoBitmaps = 25;
constexpr unsigned kMonitorTrapFlag = 27;
constexpr unsigned kUseMsrBitmaps = 28;
constexpr unsigned kActivateSecondary = 31;
// Secondary processor-based VM-execution controls.
constexpr unsigned kVirtualizeApicAccesses = 0;
constexpr unsigned kEnableEpt = 1;
constexpr unsigned kVirtualizeX2apic = 4;
constexpr unsigned kEnableVpid = 5;
constexpr unsigned kUnrestrictedGuest = 7;
constexpr unsigned kApicRegisterVirtualization = 8;
constexpr unsigned kVirtualInterruptDelivery = 9;
constexpr unsigned kEnableVmFunctions = 13;
constexpr unsigned kVmcsShadowing = 14;
constexpr unsigned kEnablePml = 17;
constexpr unsigned kEnableXsaves = 20;
constexpr unsigned kModeBasedExecute = 22;
constexpr unsigned kUseTscScaling = 25;
// VM-exit controls.
constexpr unsigned kHostAddressSpaceSize = 9;
constexpr unsigned kExitLoadPerfGlobalCtrl = 12;
constexpr unsigned kAcknowledgeInterrupt = 15;
constexpr unsigned kExitLoadPat = 19;
constexpr unsigned kExitLoadEfer = 21;
constexpr unsigned kSavePreemptionTimer = 22;
constexpr unsigned kExitLoadCet = 28;
// VM-entry controls.
constexpr unsigned kLoadDebugControls = 2;
constexpr unsigned kIa32eModeGuest = 9;
constexpr unsigned kEntryToSmm = 10;
constexpr unsigned kDeactivateDualMonitor = 11;
constexpr unsigned kEntryLoadPerfGlobalCtrl = 13;
constexpr unsigned kEntryLoadPat = 14;
constexpr unsigned kEntryLoadEfer = 15;
constexpr unsigned kEntryLoadBndcfgs = 16;
constexpr unsigned kEntryLoadCet = 20;

// The SDM's name of bit 0 to 31 of one of the five control fields and of the VM-function controls;
// empty for a reserved bit and any other field.
std::string_view control_name(VmcsField field, unsigned bit);
// "external-interrupt exiting, NMI exiting": of the bits that are set; reserved ones by number.
std::string control_names(VmcsField field, std::uint64_t value);

// Capability MSRs.
constexpr std::uint32_t kMsrVmxBasic = 0x480;
constexpr std::uint32_t kMsrVmxMisc = 0x485;
constexpr std::uint32_t kMsrVmxCr0Fixed0 = 0x486;
constexpr std::uint32_t kMsrVmxCr0Fixed1 = 0x487;
constexpr std::uint32_t kMsrVmxCr4Fixed0 = 0x488;
constexpr std::uint32_t kMsrVmxCr4Fixed1 = 0x489;
constexpr std::uint32_t kMsrVmxProcBased2 = 0x48b;
constexpr std::uint32_t kMsrVmxEptVpid = 0x48c;
constexpr std::uint32_t kMsrVmxVmFunc = 0x491;

// "IA32_VMX_PROCBASED_CTLS2 (48Bh)"; of MSRs 480h to 493h, else the number alone.
std::string vmx_msr_text(std::uint32_t index);

// The values of MSRs 480h to 493h that a guest reads.
class VmxCapabilities {
 public:
  VmxCapabilities() = default;
  explicit VmxCapabilities(std::map<std::uint32_t, std::uint64_t> msrs) : msrs_(std::move(msrs)) {}

  std::optional<std::uint64_t> get(std::uint32_t index) const;
  bool empty() const { return msrs_.empty(); }
  // The MSR that rules a control field: the TRUE one where IA32_VMX_BASIC[55] says that it counts
  // for a hypervisor that knows of it. Nothing for a field without one.
  std::optional<std::uint32_t> msr_of(VmcsField field) const;

 private:
  std::map<std::uint32_t, std::uint64_t> msrs_;
};

}  // namespace vmm::nested
