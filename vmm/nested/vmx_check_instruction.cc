// What VMLAUNCH and VMRESUME ask before they look at any field (SDM 26.1).
#include <fmt/format.h>

#include "vmm/core/cpu_state.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;

constexpr std::uint64_t kNone = ~std::uint64_t{0};

const VmxHypervisor* hypervisor(VmxCheck& c) {
  if (!c.entry.hypervisor) c.findings.unknown("the hypervisor's registers are not known");
  return c.entry.hypervisor ? &*c.entry.hypervisor : nullptr;
}

void launch_state(VmxCheck& c, VmxInstruction instruction, std::uint32_t wanted,
                  std::string_view allowed) {
  if (!c.entry.instruction)
    return c.findings.unknown("whether VMLAUNCH or VMRESUME is executed is not known");
  if (*c.entry.instruction != instruction) return;
  const std::uint32_t state = c.entry.vmcs.launch_state();
  if (state != wanted)
    c.findings.violate("launch state of the VMCS", state, 1, std::string(allowed));
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I001", "26.1", "VMLAUNCH, VMRESUME",
      "must be executed in VMX operation, in protected mode, not in virtual-8086 or compatibility "
      "mode",
      InvalidOpcode, KvmSilent},
     [](VmxCheck& c) {
       const VmxHypervisor* h = hypervisor(c);
       if (h == nullptr) return;
       if (c.entry.vmxon_address == kNone)
         c.findings.violate("VMXON pointer", kNone, 16, "set by VMXON before");
       if ((h->cr0 & spec::CR0_PE) == 0)
         c.findings.violate("CR0 of the hypervisor", h->cr0, 8, "PE = 1");
       if ((h->rflags & spec::RFLAGS_VM) != 0)
         c.findings.violate("RFLAGS of the hypervisor", h->rflags, 8, "VM = 0");
       if ((h->efer & spec::EFER_LMA) != 0 && !h->cs_l)
         c.findings.violate("CS.L of the hypervisor", 0, 1, "1 while EFER.LMA = 1");
     }},
    {{"I002", "26.1", "CPL", "must be 0", GeneralProtection, KvmSilent},
     [](VmxCheck& c) {
       const VmxHypervisor* h = hypervisor(c);
       if (h != nullptr && h->cpl != 0) c.findings.violate("CPL", h->cpl, 1, "0");
     }},
    {{"I003", "25.1.2", "VMX non-root operation", "makes VMLAUNCH and VMRESUME exit", ExitToL1,
      KvmSilent},
     [](VmxCheck& c) {
       const VmxHypervisor* h = hypervisor(c);
       if (h != nullptr && h->in_l2)
         c.findings.violate("level of the vCPU", 2, 1, "1: it is not the hypervisor that runs");
     }},
    {{"I004", "26.1", "current-VMCS pointer", "must be set", VmFailInvalid, KvmNamed},
     [](VmxCheck& c) {
       if (!c.entry.vmcs_address) return c.findings.unknown("the current VMCS is not known");
       if (*c.entry.vmcs_address == kNone)
         c.findings.violate("current-VMCS pointer", kNone, 16, "set by VMPTRLD before",
                            "VMCLEAR of the current VMCS unsets it");
     }},
    {{"I005", "26.1", "current VMCS", "must be an ordinary one, no shadow VMCS", VmFailInvalid,
      KvmNamed},
     [](VmxCheck& c) {
       if (c.entry.vmcs.is_shadow())
         c.findings.violate("bit 31 of the VMCS's first word", 1, 1, "0");
     }},
    {{"I006", "26.1", "blocking by MOV SS", "must be over", VmFail26, KvmNamed},
     [](VmxCheck& c) {
       const VmxHypervisor* h = hypervisor(c);
       if (h != nullptr && h->blocked_by_mov_ss)
         c.findings.violate("blocking by MOV SS", 1, 1, "0",
                            "the instruction before was MOV SS or POP SS");
     }},
    {{"I007", "26.1", "launch state", "must be clear for VMLAUNCH", VmFail4, KvmNamed},
     [](VmxCheck& c) {
       launch_state(c, VmxInstruction::Vmlaunch, 0, "0 (clear), as VMCLEAR makes it");
     }},
    {{"I008", "26.1", "launch state", "must be launched for VMRESUME", VmFail5, KvmNamed},
     [](VmxCheck& c) {
       launch_state(c, VmxInstruction::Vmresume, 1, "1 (launched), as a VMLAUNCH makes it");
     }},
};

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_instruction_rules() { return kRules; }

}  // namespace vmm::nested
