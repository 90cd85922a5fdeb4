// The rules that a VMLAUNCH or VMRESUME must keep (SDM Vol. 3C chapter 26; 27 in later editions),
// checked from outside over the bytes of a VMCS.
#pragma once

#include <cstdint>
#include <optional>

#include "vmm/core/cpuid_table.h"
#include "vmm/core/guest_memory.h"
#include "vmm/nested/rule.h"
#include "vmm/nested/vmcs.h"
#include "vmm/nested/vmx_controls.h"

namespace vmm::nested {

// The hypervisor's own registers where it stands at the instruction.
struct VmxHypervisor {
  std::uint64_t cr0 = 0;
  std::uint64_t cr4 = 0;
  std::uint64_t efer = 0;
  std::uint64_t rflags = 0;
  unsigned cpl = 0;
  bool cs_l = false;
  bool blocked_by_mov_ss = false;
  bool in_l2 = false;
};

enum class VmxInstruction : std::uint8_t { Vmlaunch, Vmresume };

// All that decides about an entry. What is not known makes the rules that need it unchecked, never
// kept.
struct VmxEntry {
  Vmcs vmcs;
  std::optional<std::uint64_t> vmcs_address = {};   // ~0: there is no current VMCS
  std::optional<std::uint64_t> vmxon_address = {};  // ~0: not in VMX operation
  VmxCapabilities capabilities = {};
  const CpuidTable* cpuid = nullptr;     // as the hypervisor sees it
  const MemoryReader* memory = nullptr;  // the hypervisor's physical memory
  std::optional<VmxHypervisor> hypervisor = {};
  std::optional<VmxInstruction> instruction = {};
};

// All 219 rules, in the order of the manual. The processor is taken to be outside SMM.
CheckReport check_vm_entry(const VmxEntry& entry);

}  // namespace vmm::nested
