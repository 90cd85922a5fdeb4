// Whose interrupt controllers a run gets.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/core/irqchip.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

struct IrqChipChoice {
  IrqChipKind kind = IrqChipKind::User;
  // Auto may still fall back to split, when the host keeps TSC-deadline writes to itself.
  bool may_change = false;
  std::string reason;  // why not the user chip; empty otherwise
};

// A feature of a CPU model that works with KVM's LAPIC alone.
struct LapicNeed {
  std::string name;    // "vmx"
  std::string word;    // "1.ECX[5]"
  std::string reason;  // in words
};

// What of `cpuid` only KVM's LAPIC can carry: VMX, SVM and KVM's paravirtual interrupt features.
std::vector<LapicNeed> needs_of_kernel_lapic(const CpuidTable& cpuid);

// `asked` as --irqchip has it, nothing for auto: user when the model needs nothing of KVM's LAPIC,
// else split. An explicit user that cannot carry the model is refused under strict (Host, 77);
// under mask the bits are taken from `cpu` and listed in its `missing`, under force listed only.
Result<IrqChipChoice> choose_irqchip(std::optional<IrqChipKind> asked, ResolvedCpu& cpu);

}  // namespace vmm
