// Chip:       Motorola MC146818 real-time clock, with the 128 bytes of a PC's CMOS RAM
// Source:     MC146818 data sheet (ADI856R2); bytes beyond 0Dh as SeaBIOS and OVMF read them
// Implements: time, alarm with "don't care", BCD and binary, 12 and 24 hours, century at 32h,
//             update, alarm and periodic interrupts, SET, divider reset, UIP, the NMI mask bit
// Leaves out: daylight saving, square wave, time bases other than 32.768 kHz, the CMOS checksum
// Differs:    time goes on from the moment given at construction, in virtual time, and reset() goes
//             back to that clock. An update takes no time: the bytes change when UIP falls, 244
//             microseconds after it rose. Bytes out of range count as the nearest in range at the
//             next update. A change of format while SET is 0 re-codes the time (not the alarm), as
//             QEMU does; the chip leaves that to the guest. Port 70h cannot be read.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "devices/rtc_clock.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

namespace vmm {

// Offset 0 is port 70h (index), offset 1 port 71h (data); one byte each. What registers show is of
// the last advance().
class RtcCmos final : public Device {
 public:
  struct State {
    std::uint8_t index = 0;   // bits 6:0; bit 7 masks NMI
    RtcRam ram = power_on();  // with registers A and B; C is `flags`, D is constant
    std::uint8_t flags = 0;   // C bits 6:4: PF, AF, UF
    bool clock_set = false;   // the time bytes hold the time, rather than the start time being due
    VmTime now{0};
    VmTime settled{0};  // up to when the time bytes and flags are worked out
    VmTime epoch{0};    // where the divider was at 0: seconds begin whole seconds later

    bool operator==(const State&) const = default;

   private:
    static constexpr RtcRam power_on() {
      RtcRam ram{};
      ram[0x0a] = 0x26;  // 32.768 kHz, 1024 Hz
      ram[0x0b] = 0x02;  // 24 hours, BCD
      ram[0x14] = 0x02;  // equipment: an FPU, an EGA or VGA, no diskette
      return ram;
    }
  };

  // `start` is the time at virtual time 0, in seconds since 1970, 0 to the year 9999 (clamped).
  RtcCmos(std::string name, IrqLine irq8, std::int64_t start_seconds_since_epoch);

  // Called when the alarm strikes while AIE is set; may be empty. It must not call back.
  std::function<void()> on_alarm;

  // Called when flags of register C were newly set (PF 40h, AF 20h, UF 10h), as far as anyone
  // looked; may be empty. It must not call back.
  std::function<void(std::uint8_t flags)> on_expiry;

  // What a firmware asks for; kept over reset(). RAM in bytes, from address 0 to the hole below
  // 4 GiB and from 4 GiB up: 15h to 18h, 30h, 31h, 34h, 35h, 5Bh to 5Dh.
  void set_memory_size(std::uint64_t below_4g, std::uint64_t above_4g);
  // 5Fh: processors besides the first.
  void set_cpu_count(unsigned count);
  bool nmi_masked() const { return (state_.index & 0x80) != 0; }

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void advance(VmTime now) override;
  std::optional<VmTime> next_deadline() const override { return deadline_; }
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::uint8_t reg_a() const;
  std::uint8_t reg_b() const;
  RtcFormat format() const;
  bool is_divider_held() const;
  bool is_updating() const;
  bool has_update_soon() const;
  bool interrupt() const { return (state_.flags & reg_b() & 0x70) != 0; }
  std::uint8_t read_data();
  void write_data(std::uint8_t value);
  void write_a(std::uint8_t value);
  void write_b(std::uint8_t value);
  void settle();
  void arm();
  void set_default(std::uint8_t index, std::uint64_t value);

  std::string name_;
  IrqLine irq8_;
  std::int64_t start_;
  RtcRam defaults_ = State().ram;
  State state_;
  std::optional<VmTime> deadline_;  // follows from the state
};

}  // namespace vmm
