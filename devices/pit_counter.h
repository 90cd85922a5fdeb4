// One counter of the 8254 (pit8254.h). Nothing runs: what it shows is computed from the tick at
// which it is looked at. A tick is one clock of 1193182 Hz since the machine started; ticks may not
// go backwards from call to call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "vmm/base/archive.h"

namespace vmm {

class PitCounter {
 public:
  explicit PitCounter(bool gate = true) : gate_(gate) {}

  // A control word for this counter: bits 5:0, the access not 0.
  void write_control(std::uint8_t value, std::int64_t tick);
  // A byte of a count, and of what reading gives: a latched status, a latched count, the count.
  void write(std::uint8_t value, std::int64_t tick);
  std::uint8_t read(std::int64_t tick);
  // What is latched already stays.
  void latch_count(std::int64_t tick);
  void latch_status(std::int64_t tick);
  void set_gate(bool level, std::int64_t tick);
  bool out(std::int64_t tick);
  // Whether OUT rose in the clocks (from, to].
  bool rises(std::int64_t from, std::int64_t to);
  // The first tick after `tick`, the last one looked at, where OUT rises or, in mode 3, falls.
  std::optional<std::int64_t> next_change(std::int64_t tick) const;

  // The fields as `name`.FIELD. What is loaded becomes a state that can exist at `tick`.
  void visit(Archive& archive, const std::string& name, std::int64_t tick);

  bool operator==(const PitCounter&) const = default;

 private:
  unsigned mode() const;
  unsigned access() const { return control_ >> 4 & 3u; }
  bool is_bcd() const { return (control_ & 1) != 0; }
  bool is_periodic() const { return mode() == 2 || mode() == 3; }
  std::int64_t written_period() const;
  std::int64_t elapsed(std::int64_t tick) const {
    return std::min(tick, held_at_.value_or(tick)) - start_;
  }
  std::uint16_t count(std::int64_t tick) const;
  bool out_now(std::int64_t tick) const;
  bool rises_in_run(std::int64_t from, std::int64_t to) const;
  std::int64_t next_boundary(std::int64_t tick) const;
  void settle(std::int64_t tick);
  void begin(std::int64_t tick);
  void stop(std::int64_t tick);
  void take_count(std::int64_t tick);

  bool gate_;
  std::uint8_t control_ = 0;  // bits 5:0 of the control word: access, mode, BCD
  bool programmed_ = false;   // there has been one
  // The count register: what was written, and half of what is being written.
  std::uint16_t written_ = 0;
  std::optional<std::uint8_t> low_byte_;
  bool has_count_ = false;   // since the control word
  bool null_count_ = false;  // the counting element does not have it yet
  // Reading.
  bool high_next_ = false;
  std::optional<std::uint16_t> latch_;
  bool latch_high_next_ = false;
  std::optional<std::uint8_t> status_;
  // The counting element: `period_` went in, or will, at `start_`.
  bool running_ = false;
  bool loading_ = false;     // `start_` was still to come when last looked at
  bool out_before_ = false;  // OUT until then
  std::uint16_t rest_ = 0;   // the count until then, and while nothing runs; in binary
  std::int64_t period_ = 65536;
  std::int64_t start_ = 0;
  std::optional<std::int64_t> held_at_;    // a low gate stopped it then
  std::optional<std::int64_t> reload_at_;  // modes 2 and 3: the written count goes in then
  bool strobe_over_ = false;  // mode 4: the gate rose after it had stopped the count at 0
};

}  // namespace vmm
