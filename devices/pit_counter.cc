#include "devices/pit_counter.h"

#include <algorithm>
#include <utility>

namespace vmm {
namespace {

constexpr std::int64_t kLongestPeriod = 65536;

constexpr std::uint8_t kStatusOut = 0x80;
constexpr std::uint8_t kStatusNullCount = 0x40;

std::uint16_t to_bcd(std::uint16_t value) {
  return static_cast<std::uint16_t>(value / 1000 % 10 << 12 | value / 100 % 10 << 8 |
                                    value / 10 % 10 << 4 | value % 10);
}

std::uint16_t from_bcd(std::uint16_t value) {
  return static_cast<std::uint16_t>((value >> 12) * 1000 + (value >> 8 & 15) * 100 +
                                    (value >> 4 & 15) * 10 + (value & 15));
}

std::uint8_t half(std::uint16_t value, bool high) {
  return static_cast<std::uint8_t>(high ? value >> 8 : value);
}

// Mode 3: how long OUT is high in each period.
std::int64_t high_part(std::int64_t period) { return (period + 1) / 2; }

}  // namespace

// Bit 2 of the mode does not count for modes 2 and 3.
unsigned PitCounter::mode() const {
  const unsigned bits = control_ >> 1 & 7u;
  return bits > 5 ? bits & 3u : bits;
}

// 0 is the largest count.
std::int64_t PitCounter::written_period() const {
  const std::int64_t value = is_bcd() ? from_bcd(written_) : written_;
  if (value != 0) return value;
  return is_bcd() ? 10'000 : kLongestPeriod;
}

std::uint16_t PitCounter::count(std::int64_t tick) const {
  const std::int64_t past = elapsed(tick);
  if (!running_ || past < 0) return rest_;
  const std::int64_t modulus = is_bcd() ? 10'000 : kLongestPeriod;
  std::int64_t value = period_ - past % period_;
  if (mode() == 3) {
    // Both halves count an even number down by two; the high half of an odd period gets to 0.
    const std::int64_t phase = past % period_;
    const std::int64_t high = high_part(period_);
    value = (period_ & ~std::int64_t{1}) - 2 * (phase < high ? phase : phase - high);
  } else if (!is_periodic()) {
    value = (period_ - past) % modulus + modulus;  // goes on below 0
  }
  return static_cast<std::uint16_t>(value % modulus);
}

bool PitCounter::out_now(std::int64_t tick) const {
  if (!programmed_) return false;
  if (!running_) return mode() != 0;
  if (is_periodic() && held_at_) return true;
  const std::int64_t past = elapsed(tick);
  if (past < 0) return out_before_;
  switch (mode()) {
    case 0:
    case 1:
      return past >= period_;
    case 2:
      return period_ == 1 || past % period_ != period_ - 1;
    case 3:
      return past % period_ < high_part(period_);
    default:
      return past != period_ || strobe_over_ || (held_at_ && tick > *held_at_);
  }
}

bool PitCounter::out(std::int64_t tick) {
  settle(tick);
  return out_now(tick);
}

// Does what the clocks up to `tick` did to the count register.
void PitCounter::settle(std::int64_t tick) {
  if (reload_at_ && tick >= *reload_at_) {
    const bool into_low =
        mode() == 3 && (*reload_at_ - start_) % period_ == high_part(period_) && period_ > 1;
    period_ = written_period();
    start_ = *reload_at_ - (into_low ? high_part(period_) : 0);
    reload_at_.reset();
    null_count_ = false;
  }
  if (loading_ && tick >= start_) {
    loading_ = false;
    null_count_ = false;
  }
}

// The written count goes into the counting element with the next clock.
void PitCounter::begin(std::int64_t tick) {
  out_before_ = mode() != 0 && out_now(tick);
  rest_ = count(tick);
  period_ = written_period();
  start_ = tick + 1;
  running_ = true;
  loading_ = true;
  strobe_over_ = false;
  reload_at_.reset();
  held_at_.reset();
  if (!gate_ && mode() != 1 && mode() != 5) held_at_ = start_;
}

void PitCounter::stop(std::int64_t tick) {
  rest_ = count(tick);
  running_ = false;
  loading_ = false;
  reload_at_.reset();
  held_at_.reset();
}

void PitCounter::write_control(std::uint8_t value, std::int64_t tick) {
  settle(tick);
  stop(tick);
  control_ = value & 0x3f;
  programmed_ = true;
  has_count_ = false;
  null_count_ = true;
  low_byte_.reset();
  high_next_ = false;
  latch_.reset();
  status_.reset();
}

void PitCounter::write(std::uint8_t value, std::int64_t tick) {
  if (!programmed_) return;
  settle(tick);
  if (access() == 1) {
    written_ = value;
  } else if (access() == 2) {
    written_ = static_cast<std::uint16_t>(value << 8);
  } else if (!low_byte_) {
    low_byte_ = value;
    if (mode() == 0) stop(tick);  // and OUT is low at once
    return;
  } else {
    written_ = static_cast<std::uint16_t>(value << 8 | *low_byte_);
    low_byte_.reset();
  }
  take_count(tick);
}

// A count is complete: when it goes in depends on the mode.
void PitCounter::take_count(std::int64_t tick) {
  has_count_ = true;
  null_count_ = true;
  if (mode() == 0 || mode() == 4 || (is_periodic() && !running_)) {
    begin(tick);
  } else if (loading_) {
    period_ = written_period();
  } else if (is_periodic() && !held_at_) {
    reload_at_ = next_boundary(tick);
  }  // else the next trigger loads it
}

// Where mode 2 ends its period and mode 3 its half, after `tick`.
std::int64_t PitCounter::next_boundary(std::int64_t tick) const {
  const std::int64_t past = std::max<std::int64_t>(tick - start_, 0);
  const std::int64_t phase = past % period_;
  const std::int64_t high = mode() == 3 ? high_part(period_) : period_;
  return start_ + past - phase + (phase < high ? high : period_);
}

void PitCounter::set_gate(bool level, std::int64_t tick) {
  settle(tick);
  if (std::exchange(gate_, level) == level) return;
  const bool triggered = mode() == 1 || mode() == 5;
  if (!level) {
    if (!running_ || triggered) return;
    held_at_ = std::max(tick, start_);
    reload_at_.reset();
  } else if (triggered) {
    if (has_count_) begin(tick);
  } else if (running_ && is_periodic()) {
    begin(tick);
  } else if (held_at_) {
    strobe_over_ = elapsed(tick) == period_ && tick > *held_at_;
    start_ += std::max<std::int64_t>(tick - *held_at_, 0);
    held_at_.reset();
  }
}

std::uint8_t PitCounter::read(std::int64_t tick) {
  settle(tick);
  if (status_) return *std::exchange(status_, std::nullopt);
  const bool both = access() != 1 && access() != 2;
  if (!latch_) {
    const std::uint16_t value = is_bcd() ? to_bcd(count(tick)) : count(tick);
    if (!both) return half(value, access() == 2);
    return half(value, std::exchange(high_next_, !high_next_));
  }
  const std::uint16_t value = *latch_;
  if (!both) {
    latch_.reset();
    return half(value, access() == 2);
  }
  const bool high = std::exchange(latch_high_next_, !latch_high_next_);
  if (high) latch_.reset();
  return half(value, high);
}

void PitCounter::latch_count(std::int64_t tick) {
  if (latch_) return;
  settle(tick);
  latch_ = is_bcd() ? to_bcd(count(tick)) : count(tick);
  latch_high_next_ = false;
}

void PitCounter::latch_status(std::int64_t tick) {
  if (status_) return;
  std::uint8_t value = control_;
  if (out(tick)) value |= kStatusOut;
  if (null_count_) value |= kStatusNullCount;
  status_ = value;
}

bool PitCounter::rises_in_run(std::int64_t from, std::int64_t to) const {
  if (!running_ || held_at_ || to < start_) return false;
  if (from < start_ && !out_before_ && out_now(start_)) return true;
  const std::int64_t before = std::max<std::int64_t>(from - start_, -1);
  const std::int64_t after = to - start_;
  switch (mode()) {
    case 0:
    case 1:
      return before < period_ && after >= period_;
    case 2:
    case 3:
      return period_ > 1 && after / period_ > std::max<std::int64_t>(before, 0) / period_;
    default:
      return before <= period_ && after > period_;
  }
}

bool PitCounter::rises(std::int64_t from, std::int64_t to) {
  bool risen = false;
  if (reload_at_ && to >= *reload_at_) {
    const std::int64_t reload = *reload_at_;
    risen = rises_in_run(from, reload);
    settle(reload);
    from = std::max(from, reload);
  }
  risen = rises_in_run(from, to) || risen;
  settle(to);
  return risen;
}

std::optional<std::int64_t> PitCounter::next_change(std::int64_t tick) const {
  if (!running_ || held_at_) return std::nullopt;
  if (reload_at_) return reload_at_;
  const std::int64_t past = tick - start_;
  if (past < 0 && !out_before_ && out_now(start_)) return start_;
  switch (mode()) {
    case 0:
    case 1:
      if (past < period_) return start_ + period_;
      return std::nullopt;
    case 2:
    case 3:
      if (period_ == 1) return std::nullopt;
      return next_boundary(tick);
    default:
      if (past <= period_) return start_ + period_ + 1;
      return std::nullopt;
  }
}

void PitCounter::visit(Archive& archive, const std::string& name, std::int64_t tick) {
  settle(tick);
  archive(name + ".gate", gate_)(name + ".control", control_)(name + ".programmed", programmed_);
  archive(name + ".written", written_)(name + ".low_byte", low_byte_);
  archive(name + ".has_count", has_count_)(name + ".null_count", null_count_);
  archive(name + ".high_next", high_next_)(name + ".latch", latch_);
  archive(name + ".latch_high_next", latch_high_next_)(name + ".status", status_);
  archive(name + ".running", running_)(name + ".loading", loading_);
  archive(name + ".out_before", out_before_)(name + ".rest", rest_);
  archive(name + ".period", period_)(name + ".start", start_);
  archive(name + ".held_at", held_at_)(name + ".reload_at", reload_at_);
  archive(name + ".strobe_over", strobe_over_);
  control_ &= 0x3f;
  period_ = std::clamp<std::int64_t>(period_, 1, kLongestPeriod);
  start_ = std::clamp<std::int64_t>(start_, -kLongestPeriod, tick + 1);
  if (held_at_) held_at_ = std::clamp(*held_at_, start_, tick + 1);
  if (!is_periodic() || held_at_ || !running_) reload_at_.reset();
  if (reload_at_) reload_at_ = std::clamp(*reload_at_, tick + 1, tick + kLongestPeriod);
}

}  // namespace vmm
