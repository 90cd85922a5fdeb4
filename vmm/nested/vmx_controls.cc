#include "vmm/nested/vmx_controls.h"

#include <fmt/format.h>

#include <array>

#include "vmm/base/bytes.h"

namespace vmm::nested {
namespace {

using Names = std::array<std::string_view, 32>;

constexpr Names kPinBased = [] {
  Names n{};
  n[0] = "external-interrupt exiting";
  n[3] = "NMI exiting";
  n[5] = "virtual NMIs";
  n[6] = "activate VMX-preemption timer";
  n[7] = "process posted interrupts";
  return n;
}();

constexpr Names kPrimary = [] {
  Names n{};
  n[2] = "interrupt-window exiting";
  n[3] = "use TSC offsetting";
  n[7] = "HLT exiting";
  n[9] = "INVLPG exiting";
  n[10] = "MWAIT exiting";
  n[11] = "RDPMC exiting";
  n[12] = "RDTSC exiting";
  n[15] = "CR3-load exiting";
  n[16] = "CR3-store exiting";
  n[17] = "activate tertiary controls";
  n[19] = "CR8-load exiting";
  n[20] = "CR8-store exiting";
  n[21] = "use TPR shadow";
  n[22] = "NMI-window exiting";
  n[23] = "MOV-DR exiting";
  n[24] = "unconditional I/O exiting";
  n[25] = "use I/O bitmaps";
  n[27] = "monitor trap flag";
  n[28] = "use MSR bitmaps";
  n[29] = "MONITOR exiting";
  n[30] = "PAUSE exiting";
  n[31] = "activate secondary controls";
  return n;
}();

constexpr Names kSecondary = [] {
  Names n{};
  n[0] = "virtualize APIC accesses";
  n[1] = "enable EPT";
  n[2] = "descriptor-table exiting";
  n[3] = "enable RDTSCP";
  n[4] = "virtualize x2APIC mode";
  n[5] = "enable VPID";
  n[6] = "WBINVD exiting";
  n[7] = "unrestricted guest";
  n[8] = "APIC-register virtualization";
  n[9] = "virtual-interrupt delivery";
  n[10] = "PAUSE-loop exiting";
  n[11] = "RDRAND exiting";
  n[12] = "enable INVPCID";
  n[13] = "enable VM functions";
  n[14] = "VMCS shadowing";
  n[15] = "enable ENCLS exiting";
  n[16] = "RDSEED exiting";
  n[17] = "enable PML";
  n[18] = "EPT-violation #VE";
  n[19] = "conceal VMX from PT";
  n[20] = "enable XSAVES/XRSTORS";
  n[21] = "PASID translation";
  n[22] = "mode-based execute control for EPT";
  n[23] = "sub-page write permissions for EPT";
  n[24] = "Intel PT uses guest physical addresses";
  n[25] = "use TSC scaling";
  n[26] = "enable user wait and pause";
  n[27] = "enable PCONFIG";
  n[28] = "enable ENCLV exiting";
  n[30] = "VMM bus-lock detection";
  n[31] = "instruction timeout";
  return n;
}();

constexpr Names kExit = [] {
  Names n{};
  n[2] = "save debug controls";
  n[9] = "host address-space size";
  n[12] = "load IA32_PERF_GLOBAL_CTRL";
  n[15] = "acknowledge interrupt on exit";
  n[18] = "save IA32_PAT";
  n[19] = "load IA32_PAT";
  n[20] = "save IA32_EFER";
  n[21] = "load IA32_EFER";
  n[22] = "save VMX-preemption timer value";
  n[23] = "clear IA32_BNDCFGS";
  n[24] = "conceal VMX from PT";
  n[25] = "clear IA32_RTIT_CTL";
  n[26] = "clear IA32_LBR_CTL";
  n[27] = "clear UINV";
  n[28] = "load CET state";
  n[29] = "load PKRS";
  n[30] = "save IA32_PERF_GLOBAL_CTL";
  n[31] = "activate secondary controls";
  return n;
}();

constexpr Names kEntry = [] {
  Names n{};
  n[2] = "load debug controls";
  n[9] = "IA-32e mode guest";
  n[10] = "entry to SMM";
  n[11] = "deactivate dual-monitor treatment";
  n[13] = "load IA32_PERF_GLOBAL_CTRL";
  n[14] = "load IA32_PAT";
  n[15] = "load IA32_EFER";
  n[16] = "load IA32_BNDCFGS";
  n[17] = "conceal VMX from PT";
  n[18] = "load IA32_RTIT_CTL";
  n[19] = "load UINV";
  n[20] = "load CET state";
  n[21] = "load guest IA32_LBR_CTL";
  n[22] = "load PKRS";
  return n;
}();

constexpr Names kVmFunctions = [] {
  Names n{};
  n[0] = "EPTP switching";
  return n;
}();

const Names* names_of(VmcsField field) {
  switch (field) {
    case VmcsField::PinBasedControls:
      return &kPinBased;
    case VmcsField::ProcBasedControls:
      return &kPrimary;
    case VmcsField::ProcBasedControls2:
      return &kSecondary;
    case VmcsField::VmExitControls:
      return &kExit;
    case VmcsField::VmEntryControls:
      return &kEntry;
    case VmcsField::VmFunctionControl:
      return &kVmFunctions;
    default:
      return nullptr;
  }
}

// From 480h on.
constexpr std::string_view kMsrNames[] = {
    "IA32_VMX_BASIC",           "IA32_VMX_PINBASED_CTLS",      "IA32_VMX_PROCBASED_CTLS",
    "IA32_VMX_EXIT_CTLS",       "IA32_VMX_ENTRY_CTLS",         "IA32_VMX_MISC",
    "IA32_VMX_CR0_FIXED0",      "IA32_VMX_CR0_FIXED1",         "IA32_VMX_CR4_FIXED0",
    "IA32_VMX_CR4_FIXED1",      "IA32_VMX_VMCS_ENUM",          "IA32_VMX_PROCBASED_CTLS2",
    "IA32_VMX_EPT_VPID_CAP",    "IA32_VMX_TRUE_PINBASED_CTLS", "IA32_VMX_TRUE_PROCBASED_CTLS",
    "IA32_VMX_TRUE_EXIT_CTLS",  "IA32_VMX_TRUE_ENTRY_CTLS",    "IA32_VMX_VMFUNC",
    "IA32_VMX_PROCBASED_CTLS3", "IA32_VMX_EXIT_CTLS2"};

}  // namespace

std::string_view control_name(VmcsField field, unsigned bit) {
  const Names* names = names_of(field);
  return names != nullptr && bit < names->size() ? (*names)[bit] : std::string_view{};
}

std::string control_names(VmcsField field, std::uint64_t value) {
  std::string text;
  for (unsigned i = 0; i < 64; ++i) {
    if (!bit(value, i)) continue;
    const std::string_view name = control_name(field, i);
    if (!text.empty()) text += ", ";
    text += name.empty() ? fmt::format("[{}]", i) : std::string(name);
  }
  return text;
}

std::string vmx_msr_text(std::uint32_t index) {
  if (index < kMsrVmxBasic || index >= kMsrVmxBasic + std::size(kMsrNames))
    return fmt::format("MSR {:X}h", index);
  return fmt::format("{} ({:X}h)", kMsrNames[index - kMsrVmxBasic], index);
}

std::optional<std::uint64_t> VmxCapabilities::get(std::uint32_t index) const {
  const auto found = msrs_.find(index);
  if (found == msrs_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::uint32_t> VmxCapabilities::msr_of(VmcsField field) const {
  const bool has_true = bit(get(kMsrVmxBasic).value_or(0), 55);
  switch (field) {
    case VmcsField::PinBasedControls:
      return has_true ? 0x48d : 0x481;
    case VmcsField::ProcBasedControls:
      return has_true ? 0x48e : 0x482;
    case VmcsField::ProcBasedControls2:
      return kMsrVmxProcBased2;
    case VmcsField::VmExitControls:
      return has_true ? 0x48f : 0x483;
    case VmcsField::VmEntryControls:
      return has_true ? 0x490 : 0x484;
    default:
      return std::nullopt;
  }
}

}  // namespace vmm::nested
