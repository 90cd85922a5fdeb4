// Chip:       ACPI fixed hardware: PM1a event and control blocks, power management timer, SCI
// Source:     ACPI 6.4 sections 4.8.2.1 (event and control blocks), 4.8.3.1 to 4.8.3.3; the layout
// of
//             the 82371AB's (PIIX4) power management I/O space, Intel 290562, section 7.2; QEMU's
//             sleep types (0 is S5, 1 is S3)
// Implements: PM1_STS with TMR, GBL, PWRBTN, RTC and WAK, PM1_EN, PM1_CNT with SCI_EN, SLP_TYP and
//             SLP_EN; a timer of 32 bits (TMR_VAL_EXT) at 3.579545 MHz of virtual time
// Leaves out: SMI: there is no SMI_CMD, so SCI_EN is set from power-on and GBL_RLS does nothing;
// bus
//             masters, sleep button, general-purpose events, S1, S2 and S4
// Differs:    SLP_EN with a sleep type other than S3 and S5 does nothing; TMR_STS is set when bit
// 31
//             changes, noticed when time is brought up to date, so that an idle machine is woken
//             for it only while TMR_EN is set
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

namespace vmm {

// Offset 0: PM1_STS and PM1_EN, 2 bytes each; 4: PM1_CNT, 2 bytes and 2 reserved ones; 8: PM_TMR, 4
// bytes. Accesses of 1, 2 or 4 bytes that stay within four of these. Map it with BusWidth::Any.
class AcpiPm final : public Device {
 public:
  static constexpr std::uint64_t kTimerHz = 3'579'545;

  // What PM1_CNT asks of the machine; each may be empty. `suspend` is called from within the write
  // to PM1_CNT: the vCPU that wrote must not go on to its next instruction.
  struct Calls {
    std::function<void()> power_off;
    std::function<void()> suspend;
  };

  struct State {
    std::uint16_t pm1_sts = 0;
    std::uint16_t pm1_en = 0;
    std::uint16_t pm1_cnt = 0x0001;  // SCI_EN
    // Time as last told; nothing after power-on. Time that passed before counts for no TMR_STS.
    std::optional<VmTime> now;

    bool operator==(const State&) const = default;
  };

  // `sci` is level-triggered and active high.
  AcpiPm(std::string name, IrqLine sci, Calls calls);

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void advance(VmTime now) override;
  std::optional<VmTime> next_deadline() const override;
  void visit(Archive& archive) override;

  // The real-time clock's alarm went off: sets RTC_STS.
  void rtc_alarm();
  // The power button was pressed: sets PWRBTN_STS.
  void press_power_button();
  // True when a suspended machine has to go on: RTC_STS and RTC_EN are set, or PWRBTN_STS, which
  // needs no enable bit (4.8.3.1.1).
  bool wake_requested() const;
  // The machine goes on after S3: sets WAK_STS, and SCI_EN as after power-on.
  void woken();

  const State& state() const { return state_; }

 private:
  bool sci_level() const;
  void sync_sci() { sci_.set(sci_level()); }
  void write_control(std::uint16_t value);

  std::string name_;
  IrqLine sci_;
  Calls calls_;
  State state_;
};

}  // namespace vmm
