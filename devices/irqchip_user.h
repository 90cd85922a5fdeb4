// Chip:       the processors' local APICs, the bus between them, and what INIT and SIPI make of a
//             processor
// Source:     Intel SDM vol. 3A (2023) 9.4 (INIT, SIPI, wait-for-SIPI), 11.6 (IPIs), 11.6.2
//             (destinations), 11.7 (lowest priority); KVM api.rst on KVM_INTERRUPT and kvm_run
// Implements: routing of ICRs, IOAPIC and MSI messages; shorthands; lowest priority; NMI, INIT and
//             SIPI, one SIPI latched while its INIT is on the way; ExtINT from the 8259A pair; what
//             each processor has to do before it next enters the guest
// Leaves out: SMI (counted, never delivered), start-up of more than one processor by one board id
// Differs:    lowest priority goes to the processor with the lowest PPR, the lowest number on a tie
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/lapic.h"
#include "vmm/base/archive.h"
#include "vmm/core/apic_message.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/trace.h"

namespace vmm {

class UserIrqChip final : public IrqChip {
 public:
  // What a processor does, as seen from its LAPIC.
  enum class Activity : std::uint8_t { Running, Halted, WaitForSipi };

  struct Wires {
    // vCPU `vcpu` has something to look at: it must leave the guest, or its wait. May be called for
    // the vCPU that is being served.
    std::function<void(unsigned vcpu)> wake;
    // The 8259A pair: whether INTR is high, and the INTA cycle that gives the vector.
    std::function<bool()> extint_pending;
    std::function<std::uint8_t()> extint_acknowledge;
    // An EOI for the IOAPICs.
    std::function<void(std::uint8_t vector)> broadcast_eoi;
    // For the timeline: "ipi", "init", "sipi", "inject", "eoi", ... without a time.
    std::function<void(const TraceEvent&)> note;
  };

  // One processor for each of `apic_ids` (at least one); the first is the bootstrap processor and
  // runs with the 8259A wired through LINT0, as firmware leaves it; the others wait for a SIPI.
  UserIrqChip(std::span<const std::uint32_t> apic_ids, Wires wires);

  IrqChipKind kind() const override { return IrqChipKind::User; }
  Result<bool> can_wake_masked(unsigned vcpu) override;

  unsigned vcpu_count() const { return static_cast<unsigned>(processors_.size()); }
  Lapic& lapic(unsigned vcpu) { return *processors_[vcpu].lapic; }
  Activity activity(unsigned vcpu) const { return processors_[vcpu].activity; }
  void set_activity(unsigned vcpu, Activity activity) { processors_[vcpu].activity = activity; }
  // Whether an INIT, SIPI or NMI is on its way to `vcpu`.
  bool event_pending(unsigned vcpu) const;
  std::uint64_t ignored_smis() const { return ignored_smis_; }

  // After each exit of `vcpu`: CR8 and the base MSR as the guest left them.
  void after_exit(unsigned vcpu, const EntryState& state);
  // Before each entry: what is due. An interrupt in the plan has been taken (IRR to ISR).
  EntryPlan before_entry(unsigned vcpu, const EntryState& state, VmTime now);
  // The vCPU executed HLT.
  void halt(unsigned vcpu);

  // The LAPIC register at `gpa` of the vCPU that accesses it, or nothing when its LAPIC is not in
  // xAPIC mode or elsewhere.
  std::optional<std::uint64_t> register_at(unsigned vcpu, std::uint64_t gpa) const;

  // A message of an IOAPIC, an MSI, or ours. False if no LAPIC accepts it.
  bool send(const ApicMessage& message) { return send(kNoVcpu, message); }
  // The INTR output of the 8259A pair: LINT0 of every processor.
  void set_intr(bool level);

  // Brings every LAPIC's timer to `now`; when that must be done next.
  void advance(VmTime now);
  std::optional<VmTime> next_deadline() const;
  // Of one vCPU: for the thread that waits on its behalf.
  std::optional<VmTime> next_deadline(unsigned vcpu) const;

  // As power-on: everyone but the bootstrap processor waits for a SIPI.
  void reset();
  // The same for one of them, while it does not run.
  void reset(unsigned vcpu);
  // INITs one processor, as a message of that mode would; `from`: which processor sent it, if one
  // did.
  void init(unsigned vcpu, unsigned from = kNoVcpu);
  void visit(Archive& archive);

 private:
  struct Processor {
    std::unique_ptr<Lapic> lapic;
    Activity activity = Activity::WaitForSipi;
    bool init = false;
    bool nmi = false;
    bool extint = false;  // a message in ExtINT mode
    std::optional<std::uint8_t> sipi;
  };

  void command(unsigned from, const ApicCommand& command);
  template <typename Match>
  bool deliver(unsigned from, const ApicMessage& message, const Match& match);
  bool deliver_to(unsigned vcpu, unsigned from, const ApicMessage& message);
  bool send(unsigned from, const ApicMessage& message);
  void local_event(unsigned vcpu, DeliveryMode mode);
  void note(const TraceEvent& event) {
    if (wires_.note) wires_.note(event);
  }
  bool extint_wanted(const Processor& processor) const;

  Wires wires_;
  std::vector<Processor> processors_;
  std::uint64_t ignored_smis_ = 0;
};

}  // namespace vmm
