// One virtual machine of KVM: its memory, its interrupt chips, its vCPUs.
#pragma once

#include <memory>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/core/guest_memory.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"

namespace vmm {

class Vm {
 public:
  // KVM_CREATE_VM, then what every machine of ours has switched on where the host offers it
  // (exits on emulation failures and on MSRs that KVM does not know), and which of KVM's quirks are
  // switched off. `kvm` must outlive the VM.
  static Result<std::unique_ptr<Vm>> create(const Kvm& kvm);

  // One slot per region of `memory`, which must outlive the VM.
  Result<void> map(const GuestMemory& memory);
  // KVM's LAPICs, IOAPIC, PICs and PIT (with port 61h). Before the first vCPU.
  Result<void> create_irqchip();
  Result<void> set_irq_line(unsigned gsi, bool level);
  // The vCPU with APIC id `id`, with KVM's paravirtual features tied to its CPUID where the host
  // can do that.
  Result<std::unique_ptr<Vcpu>> create_vcpu(unsigned id);

  // Names of the capabilities that were switched on, for the VM or its vCPUs, for the report.
  const std::vector<std::string>& enabled() const { return enabled_; }
  // Names of KVM's quirks that this VM does without, for the report.
  const std::vector<std::string>& disabled_quirks() const { return disabled_quirks_; }

 private:
  explicit Vm(const Kvm& kvm) : kvm_(kvm) {}
  Result<void> enable(const Capability& capability, std::uint64_t argument);
  Result<void> disable_quirks();

  const Kvm& kvm_;
  Fd fd_;
  std::vector<std::string> enabled_;
  std::vector<std::string> disabled_quirks_;
};

}  // namespace vmm
