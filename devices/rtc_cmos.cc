#include "devices/rtc_cmos.h"

#include <algorithm>
#include <utility>

#include "vmm/base/units.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t INDEX = 0;  // port 70h
constexpr std::uint64_t DATA = 1;   // port 71h
constexpr std::uint8_t INDEX_BITS = 0x7f;

constexpr std::uint8_t REG_A = 0x0a;
constexpr std::uint8_t REG_B = 0x0b;
constexpr std::uint8_t REG_C = 0x0c;
constexpr std::uint8_t REG_D = 0x0d;

constexpr std::uint8_t A_UIP = 0x80;
constexpr std::uint8_t A_DV_HELD = 0x60;  // both bits: divider reset
constexpr std::uint8_t A_RS = 0x0f;

constexpr std::uint8_t B_SET = 0x80;
constexpr std::uint8_t B_PIE = 0x40;
constexpr std::uint8_t B_AIE = 0x20;
constexpr std::uint8_t B_UIE = 0x10;
constexpr std::uint8_t B_DM = 0x04;
constexpr std::uint8_t B_24 = 0x02;

constexpr std::uint8_t C_IRQF = 0x80;
constexpr std::uint8_t C_PF = 0x40;
constexpr std::uint8_t C_AF = 0x20;
constexpr std::uint8_t C_UF = 0x10;

constexpr std::uint8_t D_VRT = 0x80;

constexpr std::int64_t TIME_BASE = 32'768;    // Hz
constexpr VmTime UIP_BEFORE_UPDATE{244'141};  // 8 clocks of the time base
constexpr VmTime FIRST_UPDATE{500'000'000};   // after the divider was let go

}  // namespace
}  // namespace spec

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;       // ns
constexpr std::int64_t kLastStart = 253'402'300'799;  // the end of the year 9999
constexpr std::int64_t kLastSecond = VmTime::max().count() / kSecond - 1;

std::int64_t seconds_in(VmTime time) { return time.count() / kSecond; }

// Clocks of the time base in `time`, exactly, and the first time with so many of them.
std::int64_t clocks_in(VmTime time) {
  const std::int64_t ns = time.count();
  return ns / kSecond * spec::TIME_BASE + ns % kSecond * spec::TIME_BASE / kSecond;
}

VmTime time_of_clock(std::int64_t clock) {
  const std::int64_t seconds = std::min(clock / spec::TIME_BASE, kLastSecond);
  const std::int64_t rest = clock % spec::TIME_BASE * kSecond;
  return VmTime(seconds * kSecond + (rest + spec::TIME_BASE - 1) / spec::TIME_BASE);
}

// The period of the periodic interrupt in clocks, 0 for none (Table 5 of the data sheet).
std::int64_t periodic_clocks(std::uint8_t a) {
  unsigned rs = a & spec::A_RS;
  if (rs == 0) return 0;
  if (rs <= 2) rs += 7;
  return std::int64_t{1} << (rs - 1);
}

bool is_time_or_alarm(std::uint8_t index) {
  return index < spec::REG_A || index == static_cast<std::uint8_t>(RtcByte::Century);
}

}  // namespace

RtcCmos::RtcCmos(std::string name, IrqLine irq8, std::int64_t start_seconds_since_epoch)
    : name_(std::move(name)),
      irq8_(std::move(irq8)),
      start_(std::clamp<std::int64_t>(start_seconds_since_epoch, 0, kLastStart)) {}

void RtcCmos::set_default(std::uint8_t index, std::uint64_t value) {
  defaults_[index] = static_cast<std::uint8_t>(value);
  state_.ram[index] = defaults_[index];
}

void RtcCmos::set_memory_size(std::uint64_t below_4g, std::uint64_t above_4g) {
  const auto units = [](std::uint64_t size, std::uint64_t from, std::uint64_t unit,
                        std::uint64_t most) {
    return size <= from ? 0 : std::min((size - from) / unit, most);
  };
  const std::uint64_t base = units(below_4g, 0, 1_KiB, 640);
  const std::uint64_t from_1m = units(below_4g, 1_MiB, 1_KiB, 0xffff);
  const std::uint64_t from_16m = units(below_4g, 16_MiB, 64_KiB, 0xffff);
  const std::uint64_t from_4g = units(above_4g, 0, 64_KiB, 0xffffff);
  set_default(0x15, base);
  set_default(0x16, base >> 8);
  set_default(0x17, from_1m);
  set_default(0x18, from_1m >> 8);
  set_default(0x30, from_1m);
  set_default(0x31, from_1m >> 8);
  set_default(0x34, from_16m);
  set_default(0x35, from_16m >> 8);
  set_default(0x5b, from_4g);
  set_default(0x5c, from_4g >> 8);
  set_default(0x5d, from_4g >> 16);
}

void RtcCmos::set_cpu_count(unsigned count) { set_default(0x5f, std::clamp(count, 1u, 256u) - 1); }

void RtcCmos::reset() {
  state_ = {};
  state_.ram = defaults_;
  deadline_.reset();
  irq8_.set(false);
}

std::uint8_t RtcCmos::reg_a() const { return state_.ram[spec::REG_A]; }
std::uint8_t RtcCmos::reg_b() const { return state_.ram[spec::REG_B]; }

RtcFormat RtcCmos::format() const {
  return {.binary = (reg_b() & spec::B_DM) != 0, .hours24 = (reg_b() & spec::B_24) != 0};
}

bool RtcCmos::is_divider_held() const { return (reg_a() & spec::A_DV_HELD) == spec::A_DV_HELD; }

bool RtcCmos::is_updating() const { return !is_divider_held() && (reg_b() & spec::B_SET) == 0; }

bool RtcCmos::has_update_soon() const {
  const VmTime into_second = (state_.now - state_.epoch) % VmTime(kSecond);
  return is_updating() && VmTime(kSecond) - into_second <= spec::UIP_BEFORE_UPDATE;
}

void RtcCmos::advance(VmTime now) {
  if (now <= state_.now) return;
  state_.now = now;
  if (deadline_ && now >= *deadline_) settle();
}

// Works out what the time since the last settling did, in steps that do not grow with it.
void RtcCmos::settle() {
  State& s = state_;
  if (!std::exchange(s.clock_set, true)) rtc_put(s.ram, format(), start_);
  const VmTime from = std::exchange(s.settled, s.now) - s.epoch;
  const VmTime to = s.now - s.epoch;
  bool alarm = false;
  const std::uint8_t before = s.flags;
  if (!is_divider_held()) {
    const std::int64_t period = periodic_clocks(reg_a());
    if (period != 0 && clocks_in(to) / period > clocks_in(from) / period) s.flags |= spec::C_PF;
    const std::int64_t seconds = seconds_in(to) - seconds_in(from);
    if (seconds > 0 && is_updating()) {
      const auto to_alarm = rtc_seconds_to_alarm(s.ram, format());
      alarm = to_alarm && *to_alarm <= seconds;
      if (alarm) s.flags |= spec::C_AF;
      s.flags |= spec::C_UF;
      rtc_advance(s.ram, format(), seconds);
    }
  }
  if (on_expiry && (s.flags & ~before) != 0) on_expiry(s.flags & ~before);
  irq8_.set(interrupt());
  arm();
  if (alarm && (reg_b() & spec::B_AIE) != 0 && on_alarm) on_alarm();
}

// The next time that an enabled interrupt has something new to say.
void RtcCmos::arm() {
  deadline_.reset();
  if (is_divider_held()) return;
  const VmTime past = state_.settled - state_.epoch;
  const auto at = [&](VmTime since_epoch) {
    const VmTime room = VmTime::max() - std::max(state_.epoch, VmTime::zero());
    const VmTime time = state_.epoch + std::min(since_epoch, room);
    if (!deadline_ || time < *deadline_) deadline_ = time;
  };
  const std::int64_t period = periodic_clocks(reg_a());
  if (period != 0 && (reg_b() & spec::B_PIE) != 0 && (state_.flags & spec::C_PF) == 0)
    at(time_of_clock((clocks_in(past) / period + 1) * period));
  if (!is_updating()) return;
  const auto at_second = [&](std::int64_t later) {
    at(VmTime(std::min(seconds_in(past) + later, kLastSecond) * kSecond));
  };
  if ((reg_b() & spec::B_UIE) != 0 && (state_.flags & spec::C_UF) == 0) at_second(1);
  if ((reg_b() & spec::B_AIE) != 0)
    if (const auto to_alarm = rtc_seconds_to_alarm(state_.ram, format())) at_second(*to_alarm);
}

Access RtcCmos::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset != spec::DATA) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  data[0] = read_data();
  return Access::Ok;
}

Access RtcCmos::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset > spec::DATA) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  if (offset == spec::INDEX)
    state_.index = data[0];
  else
    write_data(data[0]);
  return Access::Ok;
}

std::uint8_t RtcCmos::read_data() {
  const std::uint8_t index = state_.index & spec::INDEX_BITS;
  if (is_time_or_alarm(index)) settle();
  switch (index) {
    case spec::REG_A:
      return static_cast<std::uint8_t>(reg_a() | (has_update_soon() ? spec::A_UIP : 0));
    case spec::REG_C: {
      settle();
      const bool irqf = interrupt();
      const std::uint8_t flags = std::exchange(state_.flags, std::uint8_t{0});
      irq8_.set(false);
      arm();
      return static_cast<std::uint8_t>(flags | (irqf ? spec::C_IRQF : 0));
    }
    case spec::REG_D:
      return spec::D_VRT;
    default:
      return state_.ram[index];
  }
}

void RtcCmos::write_data(std::uint8_t value) {
  const std::uint8_t index = state_.index & spec::INDEX_BITS;
  if (index == spec::REG_C || index == spec::REG_D) return;
  if (index > spec::REG_D && !is_time_or_alarm(index)) {
    state_.ram[index] = value;
    return;
  }
  settle();
  if (index == spec::REG_A)
    write_a(value);
  else if (index == spec::REG_B)
    write_b(value);
  else
    state_.ram[index] = index == static_cast<std::uint8_t>(RtcByte::Seconds) ? value & 0x7f : value;
  irq8_.set(interrupt());
  arm();
}

void RtcCmos::write_a(std::uint8_t value) {
  const bool was_held = is_divider_held();
  state_.ram[spec::REG_A] = value & static_cast<std::uint8_t>(~spec::A_UIP);
  if (was_held && !is_divider_held())
    state_.epoch = state_.now + spec::FIRST_UPDATE - VmTime(kSecond);
}

// SET going high ends UIE (data sheet, register B).
void RtcCmos::write_b(std::uint8_t value) {
  const RtcFormat before = format();
  const bool was_live = (reg_b() & spec::B_SET) == 0;
  if ((value & spec::B_SET) != 0) value &= static_cast<std::uint8_t>(~spec::B_UIE);
  state_.ram[spec::REG_B] = value;
  if (format() == before || !was_live || (value & spec::B_SET) != 0) return;
  std::uint8_t& weekday = state_.ram[static_cast<std::size_t>(RtcByte::DayOfWeek)];
  const std::uint8_t kept = weekday;
  rtc_put(state_.ram, format(), rtc_get(state_.ram, before));
  weekday = kept;
}

void RtcCmos::visit(Archive& archive) {
  archive.block("rtc_cmos", 1);
  State& s = state_;
  archive("index", s.index)("ram", s.ram)("flags", s.flags)("clock_set", s.clock_set);
  archive("now", s.now)("settled", s.settled)("epoch", s.epoch);
  s.ram[spec::REG_A] &= static_cast<std::uint8_t>(~spec::A_UIP);
  s.flags &= spec::C_PF | spec::C_AF | spec::C_UF;
  s.now = std::max(s.now, VmTime::zero());
  s.settled = std::clamp(s.settled, VmTime::zero(), s.now);
  s.epoch = std::clamp(s.epoch, VmTime(-kSecond), s.settled);
  irq8_.restore_level(interrupt());
  arm();
}

}  // namespace vmm
