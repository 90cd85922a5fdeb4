#include "devices/pit8254.h"

#include <algorithm>
#include <utility>

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t CONTROL_WORD = 3;  // port 43h
constexpr std::uint64_t NMI_SC = 4;        // port 61h

constexpr unsigned READ_BACK = 3;  // in place of a counter
constexpr std::uint8_t READ_BACK_NOT_COUNT = 0x20;
constexpr std::uint8_t READ_BACK_NOT_STATUS = 0x10;

constexpr std::uint8_t NMI_SC_GATE2 = 0x01;
constexpr std::uint8_t NMI_SC_WRITABLE = 0x0f;
constexpr std::uint8_t NMI_SC_REFRESH = 0x10;
constexpr std::uint8_t NMI_SC_OUT2 = 0x20;
constexpr std::int64_t REFRESH_TICKS = 18;  // 15.085 microseconds, what counter 1 is set to

}  // namespace
}  // namespace spec

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;  // ns

// How many clocks there were by `time`, exactly: no product exceeds 64 bits.
std::int64_t tick_at(VmTime time) {
  const std::int64_t ns = time.count();
  return ns / kSecond * Pit8254::kFrequency + ns % kSecond * Pit8254::kFrequency / kSecond;
}

// The first nanosecond at which tick_at() gives `tick`.
VmTime time_of(std::int64_t tick) {
  const std::int64_t seconds = tick / Pit8254::kFrequency;
  const std::int64_t rest = tick % Pit8254::kFrequency * kSecond;
  if (seconds >= VmTime::max().count() / kSecond) return VmTime::max();
  return VmTime(seconds * kSecond + (rest + Pit8254::kFrequency - 1) / Pit8254::kFrequency);
}

}  // namespace

Pit8254::Pit8254(std::string name, IrqLine irq0) : name_(std::move(name)), irq0_(std::move(irq0)) {}

std::int64_t Pit8254::tick() const { return tick_at(state_.now); }

void Pit8254::set_bios_defaults() {
  const auto out = [this](std::uint64_t offset, std::uint8_t value) {
    (void)write(offset, std::span(&value, 1));
  };
  out(3, 0x36);
  out(0, 0);
  out(0, 0);
  out(3, 0x54);
  out(1, spec::REFRESH_TICKS);
}

void Pit8254::reset() {
  state_ = {};
  deadline_.reset();
  irq0_.set(false);
}

void Pit8254::advance(VmTime now) {
  if (now <= state_.now) return;
  state_.now = now;
  if (!deadline_ || now < *deadline_) return;
  follow_out();
  arm();
}

// Gives the line what counter 0 did since it was last seen: however much that was, one edge.
void Pit8254::follow_out() {
  const std::int64_t now = tick();
  const bool risen = state_.counters[0].rises(std::exchange(state_.seen, now), now);
  const bool out = state_.counters[0].out(now);
  if (risen) {
    irq0_.set(false);
    irq0_.set(true);
    state_.late = !out;
    if (on_expiry) on_expiry();
  } else if (out || !state_.late) {
    irq0_.set(out);
    state_.late = false;
  }
}

void Pit8254::arm() {
  deadline_.reset();
  if (const auto change = state_.counters[0].next_change(tick())) deadline_ = time_of(*change);
}

Access Pit8254::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset > spec::NMI_SC || offset == spec::CONTROL_WORD) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  const std::int64_t now = tick();
  if (offset < spec::CONTROL_WORD) {
    data[0] = state_.counters[offset].read(now);
    return Access::Ok;
  }
  data[0] = state_.port61;
  if (now / spec::REFRESH_TICKS % 2 != 0) data[0] |= spec::NMI_SC_REFRESH;
  if (state_.counters[2].out(now)) data[0] |= spec::NMI_SC_OUT2;
  return Access::Ok;
}

Access Pit8254::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset > spec::NMI_SC) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  const std::uint8_t value = data[0];
  if (offset == spec::CONTROL_WORD) {
    write_command(value);
  } else if (offset == spec::NMI_SC) {
    state_.port61 = value & spec::NMI_SC_WRITABLE;
    state_.counters[2].set_gate((value & spec::NMI_SC_GATE2) != 0, tick());
  } else {
    state_.counters[offset].write(value, tick());
  }
  if (offset == 0 || offset == spec::CONTROL_WORD) {
    follow_out();
    arm();
  }
  return Access::Ok;
}

void Pit8254::write_command(std::uint8_t value) {
  const std::int64_t now = tick();
  const unsigned select = value >> 6;
  if (select == spec::READ_BACK) {
    for (unsigned i = 0; i < state_.counters.size(); ++i) {
      if ((value & 2u << i) == 0) continue;
      if ((value & spec::READ_BACK_NOT_COUNT) == 0) state_.counters[i].latch_count(now);
      if ((value & spec::READ_BACK_NOT_STATUS) == 0) state_.counters[i].latch_status(now);
    }
  } else if ((value & 0x30) == 0) {
    state_.counters[select].latch_count(now);
  } else {
    state_.counters[select].write_control(value, now);
    if (select == 0) state_.late = false;
  }
}

void Pit8254::visit(Archive& archive) {
  archive.block("pit8254", 1);
  State& s = state_;
  archive("port61", s.port61)("now", s.now)("seen", s.seen)("late", s.late);
  s.port61 &= spec::NMI_SC_WRITABLE;
  s.now = std::max(s.now, VmTime::zero());
  const std::int64_t now = tick();
  s.seen = std::clamp<std::int64_t>(s.seen, 0, now);
  for (unsigned i = 0; i < s.counters.size(); ++i)
    s.counters[i].visit(archive, "counter" + std::to_string(i), now);
  irq0_.restore_level(s.late || s.counters[0].out(now));
  arm();
}

}  // namespace vmm
