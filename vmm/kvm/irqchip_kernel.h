// KVM's own interrupt controllers behind the IrqChip seam.
#pragma once

#include <span>

#include "vmm/core/irq.h"
#include "vmm/kvm/vm.h"

namespace vmm {

class KernelIrqChip final : public IrqChip {
 public:
  // Creates LAPICs, IOAPIC, PICs and PIT in `vm`, which must outlive the chip.
  static Result<std::unique_ptr<KernelIrqChip>> create(Vm& vm);

  std::string_view name() const override { return "kernel"; }
  void set_pin(unsigned gsi, bool level) override;
  Result<bool> can_wake_masked(unsigned vcpu) override;

  // The vCPUs whose LAPICs can_wake_masked() reads, in the order of their numbers.
  void attach(std::vector<Vcpu*> vcpus) { vcpus_ = std::move(vcpus); }
  // How many line changes KVM refused (none, on a working host).
  unsigned failures() const { return failures_; }

 private:
  explicit KernelIrqChip(Vm& vm) : vm_(vm) {}
  Vm& vm_;
  std::vector<Vcpu*> vcpus_;
  unsigned failures_ = 0;
};

}  // namespace vmm
