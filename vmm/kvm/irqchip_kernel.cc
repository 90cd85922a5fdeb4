#include "vmm/kvm/irqchip_kernel.h"

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {

void KernelIrqChip::set_pin(unsigned gsi, bool level) {
  if (!vm_.set_irq_line(gsi, level)) ++failures_;
}

Result<bool> KernelIrqChip::can_wake_masked(unsigned vcpu) {
  VMM_CHECK(vcpu < vcpus_.size(), "no such vCPU");
  const kvm_lapic_state lapic = VMM_TRY(vcpus_[vcpu]->lapic());
  const std::span<const std::uint8_t> page(reinterpret_cast<const std::uint8_t*>(lapic.regs),
                                           sizeof lapic.regs);
  // A local source in NMI mode (SDM vol. 3A 10.5.1: delivery mode bits 10:8 = 100b, mask bit 16)
  // gets through to a CPU with interrupts off: performance counters, LINT0, LINT1. LINT1 resets to
  // masked and is NMI on every PC; nothing of ours drives it, so it does not count.
  for (const std::size_t lvt : {std::size_t{0x340}, std::size_t{0x350}}) {
    const auto value = load<std::uint32_t>(page, lvt);
    if (bits(value, 10, 8) == 4 && !bit(value, 16)) return true;
  }
  return false;
}

}  // namespace vmm
