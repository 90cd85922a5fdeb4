// Chip:       Intel 8254 interval timer at 1193182 Hz, and port 61h beside it
// Source:     8254 data sheet (231164); NMI status and control register 61h as in the Intel PIIX
//             data sheet (290550)
// Implements: three counters, modes 0 to 5, BCD, the three byte accesses, counter latch, read-back,
//             null count, gate and output of counter 2, the refresh toggle
// Leaves out: sound, parity and channel check (their enable bits are kept)
// Differs:    before its first control word an output is low and nothing counts. An illegal count
//             of 1 never ends in modes 2 and 3: OUT stays high. In mode 2 the interrupt line makes
//             its low pulse at the rising edge, without the clock between. A rising edge that is
//             noticed only after its falling one holds the line high until the next, so that a
//             late machine loses no more than it slept through. A digit above 9 in BCD counts for
//             what it says. Port 43h cannot be read.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "devices/pit_counter.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

namespace vmm {

// Offsets 0 to 3 are ports 40h to 43h, offset 4 is port 61h; one byte each. What registers show is
// of the last advance().
class Pit8254 final : public Device {
 public:
  static constexpr std::int64_t kFrequency = 1'193'182;  // Hz

  struct State {
    std::array<PitCounter, 3> counters = {PitCounter(), PitCounter(), PitCounter(false)};
    std::uint8_t port61 = 0;  // bits 3:0
    VmTime now{0};
    std::int64_t seen = 0;  // the tick up to which counter 0's edges were given
    bool late = false;      // the line is held high beyond OUT

    bool operator==(const State&) const = default;
  };

  Pit8254(std::string name, IrqLine irq0);

  // Called when the output of counter 0 has risen, once however often that was since the last look;
  // may be empty. It must not call back.
  std::function<void()> on_expiry;

  // What a firmware leaves: counter 0 in mode 3 at 18.2 Hz, counter 1 in mode 2 for the refresh.
  void set_bios_defaults();

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void advance(VmTime now) override;
  std::optional<VmTime> next_deadline() const override { return deadline_; }
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::int64_t tick() const;
  void write_command(std::uint8_t value);
  void follow_out();
  void arm();

  std::string name_;
  IrqLine irq0_;
  State state_;
  std::optional<VmTime> deadline_;  // follows from the state
};

}  // namespace vmm
