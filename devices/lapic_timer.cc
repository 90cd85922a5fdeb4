// The timer of the local APIC (11.5.4). The counter is never stepped: it is the time that is left
// until `expiry`, and all that advance() does is one division however much time went by.
#include <algorithm>

#include "devices/lapic.h"
#include "devices/lapic_spec.h"

namespace vmm {
namespace {

// Beyond it (146 years) time stands still, so that sums of times cannot overflow.
constexpr VmTime kLatest{std::int64_t{1} << 62};

}  // namespace

bool Lapic::timer_masked() const { return (state_.lvt[kTimer] & spec::LVT_MASKED) != 0; }

bool Lapic::is_periodic() const {
  return (state_.lvt[kTimer] & (spec::LVT_PERIODIC | spec::LVT_TSC_DEADLINE)) == spec::LVT_PERIODIC;
}

bool Lapic::tsc_deadline_mode() const {
  return (state_.lvt[kTimer] & (spec::LVT_PERIODIC | spec::LVT_TSC_DEADLINE)) ==
         spec::LVT_TSC_DEADLINE;
}

// Bits 3, 1 and 0: 000b divides by 2, and so on to 110b by 128; 111b by 1 (figure 11-10).
unsigned Lapic::divide_shift() const {
  const unsigned code = (state_.divide & 3U) | (state_.divide & 8U) >> 1;
  return (code + 1) & 7;
}

// From the initial count to 0, in ns: at most 2^39.
VmTime Lapic::period() const {
  return VmTime(std::int64_t{state_.initial_count} << divide_shift());
}

// Counts down at the end of each divided tick, so a part of a tick still counts as one.
std::uint32_t Lapic::current_count() const {
  if (!state_.expiry || tsc_deadline_mode()) return 0;
  const auto left = static_cast<std::uint64_t>((*state_.expiry - now_).count());
  const unsigned shift = divide_shift();
  return static_cast<std::uint32_t>((left + (std::uint64_t{1} << shift) - 1) >> shift);
}

void Lapic::disarm_timer() {
  state_.initial_count = 0;
  state_.tsc_deadline = 0;
  state_.expiry.reset();
}

void Lapic::write_initial_count(std::uint32_t count) {
  if (tsc_deadline_mode()) return;  // 11.5.4.1
  state_.initial_count = count;
  state_.expiry.reset();
  if (count != 0) state_.expiry = now_ + period();
}

void Lapic::write_divide(std::uint8_t value) {
  const unsigned before = divide_shift();
  state_.divide = value & spec::DIVIDE_BITS;
  if (!state_.expiry || tsc_deadline_mode()) return;
  // The count stays, each of its ticks gets another length.
  const auto left = static_cast<std::uint64_t>((*state_.expiry - now_).count()) << divide_shift();
  const std::uint64_t round_up = (std::uint64_t{1} << before) - 1;
  state_.expiry = now_ + VmTime(static_cast<std::int64_t>((left + round_up) >> before));
}

void Lapic::set_tsc_deadline(std::uint64_t tsc, VmTime expiry) {
  if (!hardware_enabled() || !tsc_deadline_mode()) return;
  state_.tsc_deadline = tsc;
  state_.expiry.reset();
  if (tsc != 0) state_.expiry = expiry;
  expire();
}

void Lapic::advance(VmTime now) {
  now_ = std::clamp(now, now_, kLatest);
  expire();
}

void Lapic::expire() {
  if (!state_.expiry || now_ < *state_.expiry) return;
  if (is_periodic()) {
    // Expiries that nobody waited for are one interrupt; the phase stays.
    const VmTime step = period();
    *state_.expiry += step * ((now_ - *state_.expiry) / step + 1);
  } else {
    state_.expiry.reset();
    state_.tsc_deadline = 0;
  }
  if (!timer_masked()) note("lapic-timer", state_.lvt[kTimer] & spec::LVT_VECTOR);
  fire(kTimer);
}

std::optional<VmTime> Lapic::next_deadline() const {
  if (!state_.expiry || timer_masked()) return std::nullopt;
  if (!is_periodic() || period() >= kShortestWake) return state_.expiry;
  // The first expiry that is not too soon.
  const VmTime step = period();
  const VmTime missing = now_ + kShortestWake - *state_.expiry;
  return *state_.expiry + step * ((missing + step - VmTime(1)) / step);
}

// Puts a loaded timer where running could have brought it: in the counting modes the expiry is
// after now, by at most one period.
void Lapic::restrain_timer() {
  State& s = state_;
  now_ = std::clamp(now_, VmTime(0), kLatest);
  s.divide &= spec::DIVIDE_BITS;
  if (tsc_deadline_mode()) {
    s.initial_count = 0;
    if (s.tsc_deadline == 0) s.expiry.reset();
    if (!s.expiry) s.tsc_deadline = 0;
    return;
  }
  s.tsc_deadline = 0;
  if (s.initial_count == 0) s.expiry.reset();
  if (s.expiry && (*s.expiry <= now_ || *s.expiry > now_ + period())) s.expiry = now_ + period();
}

}  // namespace vmm
