// Chip:       local APIC of one processor, version 14h, in xAPIC and in x2APIC mode
// Source:     Intel SDM vol. 3A (2023) chapter 11: register map 11.4.1, base MSR 11.4.4, state
// after
//             reset and INIT 11.4.7, LVT 11.5, IPIs 11.6, acceptance and priority 11.8,
//             x2APIC 11.12
// Implements: TPR, PPR, ISR, IRR, TMR; LVT timer (one-shot, periodic, TSC-deadline), LINT0, LINT1,
//             error, thermal and performance (nothing raises the last two); ESR; ICR; self-IPI;
//             EOI-broadcast suppression; SVR software enable; LDR and DFR, flat and cluster
// Leaves out: CMCI (2F0h), arbitration priority (90h reads 0), remote read, focus checking,
//             IA32_XAPIC_DISABLE_STATUS, the polarity of LINT0 and LINT1 (kept, always active high)
// Differs:    the bus clock is 1 GHz (KVM's), so that one tick of the undivided timer is 1 ns of
//             virtual time. ICR delivery status is always idle, because delivery is immediate. The
//             xAPIC id may be written, as in KVM and in processors up to the Nehalem generation; it
//             comes back at reset and on leaving xAPIC mode. A new divide configuration keeps the
//             current count. The reserved timer mode 11b counts as one-shot. A periodic timer
//             faster than kShortestWake counts exactly, but asks to be woken only that often.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/core/apic_message.h"
#include "vmm/core/device.h"
#include "vmm/core/trace_kind.h"

namespace vmm {

class Lapic final : public Device {
 public:
  using Bitmap = std::array<std::uint8_t, 32>;  // bit v: vector v

  // LVT entries in the order of their registers from 320h (timer) on.
  enum LvtEntry : unsigned { kTimer, kThermal, kPerformance, kLint0, kLint1, kError, kLvtEntries };

  // A guest may ask for an interrupt every nanosecond; no host could follow.
  static constexpr VmTime kShortestWake{50'000};

  // The registers (11.4.7.1). Power-on values are those of the bootstrap processor with id 0.
  struct State {
    std::uint64_t base = 0xfee00900;  // IA32_APIC_BASE
    std::uint8_t xapic_id = 0;        // bits 31:24 of the id register in xAPIC mode
    std::uint8_t tpr = 0;
    std::uint32_t ldr = 0;  // xAPIC mode's; in x2APIC mode it follows from the id
    std::uint32_t dfr = 0xffffffff;
    std::uint32_t svr = 0xff;
    Bitmap isr{};
    Bitmap tmr{};
    Bitmap irr{};
    std::uint32_t esr = 0;     // what a read gives
    std::uint32_t errors = 0;  // what was detected since the ESR was written
    std::uint64_t icr = 0;
    std::array<std::uint32_t, kLvtEntries> lvt = {0x10000, 0x10000, 0x10000,
                                                  0x10000, 0x10000, 0x10000};
    std::uint32_t initial_count = 0;
    std::uint8_t divide = 0;         // the divide configuration as written: 0 divides by 2
    std::optional<VmTime> expiry;    // when the count gets to 0 next; nothing while it is stopped
    std::uint64_t tsc_deadline = 0;  // IA32_TSC_DEADLINE while armed

    bool operator==(const State&) const = default;
  };

  // Where things leave to. Any may be empty. `send` and `broadcast_eoi` may call back into
  // accept().
  struct Wires {
    // An ICR (or self-IPI) was written; vectors below 16 of a fixed or lowest-priority command are
    // reported in the ESR and do not come here, nor do the reserved delivery modes.
    std::function<void(const ApicCommand&)> send = {};
    // EOI of a level-triggered vector, for the IOAPICs (not called with SVR bit 12 set).
    std::function<void(std::uint8_t vector)> broadcast_eoi = {};
    // An LVT entry in NMI, SMI or INIT mode fired: an event for this processor.
    std::function<void(DeliveryMode)> local_event = {};
    // For the timeline: "lapic-timer" (vector), "eoi" (vector), "lapic-error" (ESR bits).
    std::function<void(TraceKind kind, std::uint64_t value)> note = {};
  };

  // `id` is the x2APIC id; its low 8 bits are the xAPIC id. `bootstrap` sets BSP in the base MSR.
  Lapic(std::string name, std::uint32_t id, bool bootstrap, Wires wires);
  ~Lapic() override;

  std::string_view name() const override { return name_; }
  // Power-on: everything, the base MSR too. The levels of the pins are the wires' and stay.
  void reset() override;
  // What INIT does (11.4.7.3): as reset, but the id and the base MSR stay.
  void init();
  // What firmware leaves for a kernel that knows only the 8259A (virtual wire mode): LINT0 in
  // ExtINT mode and unmasked, although the LAPIC is software-disabled.
  void set_virtual_wire();

  // The register page, `offset` from the APIC base; registers are 16 bytes apart and 4 bytes wide.
  // An aligned 4-byte access is the manual's; other widths and alignments that stay within one
  // register's 4 bytes read that part, and are refused as writes (BadWidth); what crosses is
  // BadWidth. Reserved registers: NoRegister, and "illegal register address" in the ESR. Reading
  // a write-only register gives 0, writing a read-only one does nothing. All that only in xAPIC
  // mode: in another mode there is no register. advance() comes first: the current count is that
  // of the last advance().
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;

  // x2APIC MSRs, `index` 800h-8FFh (11.12.1.2). False: the access is a #GP (also when the LAPIC is
  // not in x2APIC mode); nothing has changed then. Time as for read() and write().
  [[nodiscard]] bool read_msr(std::uint32_t index, std::uint64_t& value);
  [[nodiscard]] bool write_msr(std::uint32_t index, std::uint64_t value);

  // IA32_APIC_BASE, which KVM handles and reports: a new value switches modes with the resets of
  // 11.4.3 and 11.12.5 (to disabled: as after reset; to x2APIC: LDR from the id, ICR high cleared).
  void set_base(std::uint64_t value);
  std::uint64_t base() const { return state_.base; }
  bool xapic() const;   // hardware-enabled, MMIO
  bool x2apic() const;  // hardware-enabled, MSRs
  // As messages name it in the present mode.
  std::uint32_t id() const { return x2apic() ? id_ : state_.xapic_id; }

  // The task priority; CR8 is bits 7:4.
  std::uint8_t tpr() const { return state_.tpr; }
  void set_tpr(std::uint8_t value) { state_.tpr = value; }

  // IA32_TSC_DEADLINE (11.5.4.1): `tsc` as written (0 disarms), `expiry` when the guest's TSC gets
  // there. Ignored unless the timer is in TSC-deadline mode; reads as 0 once it fired, which it
  // does here and now when `expiry` is not after the last advance().
  void set_tsc_deadline(std::uint64_t tsc, VmTime expiry);
  std::uint64_t tsc_deadline() const { return state_.tsc_deadline; }
  // The timer's LVT is in TSC-deadline mode. Whether the guest may choose it is CPUID's matter:
  bool tsc_deadline_mode() const;
  void allow_tsc_deadline(bool allowed) { tsc_deadline_allowed_ = allowed; }  // default: no
  // Whether version bit 24 and SVR bit 12 exist. A guest that finds them may leave level-triggered
  // interrupts to the EOI registers of its IOAPICs, which version 11h of that chip has not.
  void offer_eoi_suppression(bool offered) { eoi_suppression_offered_ = offered; }  // default: yes

  // Whether a message for `destination` means this LAPIC (11.6.2).
  bool matches(std::uint32_t destination, bool logical) const;
  // A fixed or lowest-priority interrupt arrives: IRR, and TMR for its trigger. A vector below 16
  // sets "received illegal vector". Nothing while the LAPIC is disabled, by software or hardware.
  // Whether it is in IRR now.
  bool accept(std::uint8_t vector, bool level_triggered);
  // The level of the LINT0 and LINT1 pins. In Fixed mode an edge is accepted (with LINT0's trigger
  // bit the level, again after each EOI); ExtINT is asked by wants_extint(); NMI, SMI and INIT
  // mode: local_event on the rising edge, of LINT1 also while hardware-disabled (it is NMI then).
  void set_lint(unsigned pin, bool level);

  // The processor-priority register (11.8.3.1).
  std::uint8_t ppr() const;
  // The vector that the processor would take now if interrupts are on: the highest in IRR whose
  // class is above PPR's. Software-disabling holds what is in IRR, it does not take it back.
  std::optional<std::uint8_t> pending() const;
  // The highest vector in IRR whatever the priority, for wake-ups and reports.
  std::optional<std::uint8_t> requested() const;
  // The processor takes `vector` (what pending() said; a check): IRR to ISR.
  void acknowledge(std::uint8_t vector);
  // The 8259A's INTR reaches the processor: LINT0 is high and unmasked in ExtINT mode, or the
  // LAPIC is hardware-disabled (11.4.3: LINT0 is INTR then).
  bool wants_extint() const;

  void advance(VmTime now) override;
  // Nothing also while the timer is masked: what it did then is worked out at the next advance().
  std::optional<VmTime> next_deadline() const override;
  void visit(Archive& archive) override;
  const State& state() const { return state_; }
  // A register by its number (offset / 10h) for whoever only looks, whatever the mode; 0 for those
  // that do not exist. Time as for read().
  std::uint32_t peek(unsigned reg) const { return read_register(reg); }

 private:
  // lapic.cc
  bool hardware_enabled() const;
  bool software_enabled() const;
  void reset_registers();
  void fire(LvtEntry entry);
  void sense_lint0();
  void end_of_interrupt();
  void note(TraceKind kind, std::uint64_t value) const;
  void restrain();
  // lapic_registers.cc
  std::uint32_t x2apic_ldr() const;
  std::uint32_t version() const;
  std::uint32_t writable_svr() const;
  std::uint32_t writable_lvt(LvtEntry entry) const;
  std::uint32_t writable_in_x2apic(unsigned reg) const;
  std::uint32_t read_register(unsigned reg) const;
  void write_register(unsigned reg, std::uint32_t value);
  void write_svr(std::uint32_t value);
  void write_lvt(LvtEntry entry, std::uint32_t value);
  void send(std::uint32_t command, std::uint32_t destination);
  void report_error(std::uint32_t error);
  // lapic_timer.cc
  bool timer_masked() const;
  bool is_periodic() const;
  unsigned divide_shift() const;
  VmTime period() const;
  std::uint32_t current_count() const;
  void write_initial_count(std::uint32_t count);
  void write_divide(std::uint8_t value);
  void disarm_timer();
  void expire();
  void restrain_timer();

  // Configuration and wiring.
  std::string name_;
  std::uint32_t id_;
  bool bootstrap_;
  bool tsc_deadline_allowed_ = false;
  bool eoi_suppression_offered_ = true;
  Wires wires_;
  // What the world last said; no reset changes it.
  VmTime now_{0};
  std::array<bool, 2> lint_{};
  // State.
  State state_;
};

}  // namespace vmm
