// One virtual machine of KVM: its memory, its interrupt chips, its vCPUs.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/core/apic_message.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/quirks.h"
#include "vmm/core/vcpu_state.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"

namespace vmm {

class Vm {
 public:
  // KVM_CREATE_VM, then what every machine of ours has switched on where the host offers it
  // (exits on emulation failures and on MSRs that KVM does not know), and which of KVM's quirks are
  // switched off. `kvm` must outlive the VM.
  // `kind` says whose interrupt controllers it has; they are made before any vCPU. `quirks_off`:
  // the quirks (vmm/core/quirks.h) that it is to be without where KVM can do that. Nothing: KVM as
  // it comes, with all of them, and its paravirtual MSRs and hypercalls whatever CPUID says.
  static Result<std::unique_ptr<Vm>> create(
      const Kvm& kvm, IrqChipKind kind,
      std::optional<std::uint32_t> quirks_off = usual_quirks_off());

  // One slot per region of `memory`, which must outlive the VM, read-only ones for its ROM; the
  // same for processors in system management mode.
  Result<void> map(const GuestMemory& memory);
  // Memory at `base` that the guest reads and whose writes exit: a flash chip that shows its array.
  // There is one; empty bytes take it away, and reads exit too. From any thread.
  Result<void> set_flash(Gpa base, std::span<std::uint8_t> bytes);
  // KVM's 8259As and PIT as a firmware leaves them: vectors from 08h and 70h, the timer's line open
  // and ticking 18.2 times a second.
  Result<void> set_bios_defaults();
  // Bit n: input n of KVM's 8259As is level-triggered (ELCR), as firmware sets up those of PCI.
  Result<void> set_level_triggered(std::uint16_t irqs);
  // A line of KVM's own IOAPIC and PICs.
  Result<void> set_irq_line(unsigned gsi, bool level);
  // A message to KVM's LAPICs, from an IOAPIC of ours.
  Result<bool> send(const ApicMessage& message);
  // What our IOAPIC sends, at most 48 messages (nothing: an unused place), so that KVM can tell
  // whose EOI to report (KVM_EXIT_IOAPIC_EOI).
  Result<void> set_routes(std::span<const std::optional<ApicMessage>> messages);
  // KVM's PICs, IOAPIC and PIT (with kind Kernel) and kvmclock.
  Result<VmState> state();
  Result<void> set_chips(const KernelChips& chips);
  // False: this KVM has no kvmclock to set (KVM_CAP_ADJUST_CLOCK).
  Result<bool> set_clock(std::uint64_t nanoseconds);
  // KVM's PIT goes no further until set_pit(): its interrupts would pile up.
  Result<void> stop_pit(const kvm_pit_state2& now);
  Result<void> set_pit(const kvm_pit_state2& state);
  // KVM_SET_TSC_KHZ for all vCPUs to come.
  Result<void> set_tsc_khz(std::uint32_t khz);

  // The guest's accesses to these MSRs exit with reason FILTER.
  Result<void> filter_msr(std::uint32_t index);
  // The vCPU with APIC id `id`, with KVM's paravirtual features tied to its CPUID where the host
  // can do that.
  Result<std::unique_ptr<Vcpu>> create_vcpu(unsigned id);

  // Names of the capabilities that were switched on, for the VM or its vCPUs, for the report.
  const std::vector<std::string>& enabled() const { return enabled_; }
  // KVM's quirks that this VM does without.
  std::uint32_t disabled_quirks() const { return disabled_quirks_; }

 private:
  explicit Vm(const Kvm& kvm) : kvm_(kvm) {}
  Result<void> enable(const Capability& capability, std::uint64_t argument);
  Result<void> disable_quirks(std::uint32_t wanted);
  Result<void> map_in(std::uint32_t address_space, const GuestMemory& memory);
  Result<void> create_irqchip();
  Result<void> ask_for_offer(IrqChipKind kind);
  Result<kvm_irqchip> chip(std::uint32_t id);

  const Kvm& kvm_;
  Fd fd_;
  bool as_it_comes_ = false;
  IrqChipKind kind_ = IrqChipKind::User;
  VcpuOffer offer_;
  bool clock_ = false;
  std::vector<std::string> enabled_;
  std::uint32_t disabled_quirks_ = 0;
};

}  // namespace vmm
