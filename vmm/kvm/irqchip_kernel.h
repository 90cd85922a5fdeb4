// KVM's own LAPICs, with or without KVM's IOAPIC, PICs and PIT, behind the IrqChip seam.
#pragma once

#include <vector>

#include "vmm/core/irq.h"
#include "vmm/core/irqchip.h"
#include "vmm/kvm/vm.h"

namespace vmm {

class KernelIrqChip final : public IrqChip, public IrqSink {
 public:
  // `kind` is Kernel or Split, as `vm` was created, which must outlive the chip.
  KernelIrqChip(Vm& vm, IrqChipKind kind) : vm_(vm), kind_(kind) {}

  IrqChipKind kind() const override { return kind_; }
  // A line of KVM's IOAPIC and PICs; not with Split.
  void set_pin(unsigned gsi, bool level) override;
  Result<bool> can_wake_masked(unsigned vcpu) override;

  // The vCPUs whose LAPICs can_wake_masked() reads, in the order of their numbers.
  void attach(std::vector<Vcpu*> vcpus) { vcpus_ = std::move(vcpus); }
  // How many line changes KVM refused (none, on a working host).
  unsigned failures() const { return failures_; }

 private:
  Vm& vm_;
  IrqChipKind kind_;
  std::vector<Vcpu*> vcpus_;
  unsigned failures_ = 0;
};

}  // namespace vmm
