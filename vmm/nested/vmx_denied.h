// Instructions that CPUID offers and a VMCS makes #UD in L2, for want of a control (SDM Vol.
// 3C 25.3, "changes to instruction behavior in VMX non-root operation"). No rule of VM entry is
// broken by that, and nothing tells the author of a hypervisor.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/cpuid_table.h"
#include "vmm/nested/vmcs.h"
#include "vmm/nested/vmx_controls.h"

namespace vmm::nested {

struct DeniedInstruction {
  std::string_view name;     // "XSAVES": of the first that the control is about
  std::string_view feature;  // as vmm/machine/disassemble.h names the CPUID bit: "xsaves"
  std::string_view cpuid;    // "CPUID Dh.1.EAX[3]"
  unsigned control = 0;      // of the secondary controls, 0 here
  // Whether the capability MSR lets it be 1; nothing when that is not known.
  std::optional<bool> allowed = {};

  // The place of its allowed-1 setting in IA32_VMX_PROCBASED_CTLS2.
  unsigned msr_bit() const { return control + 32; }
  // `XSAVES is #UD in L2: "enable XSAVES/XRSTORS" (SECONDARY[20]) is 0, and ...`
  std::string text() const;
};

// `cpuid` is what the hypervisor itself sees: it may answer its guest otherwise.
std::vector<DeniedInstruction> denied_instructions(const Vmcs& vmcs,
                                                   const VmxCapabilities& capabilities,
                                                   const CpuidTable& cpuid);

}  // namespace vmm::nested
