#include "devices/acpi_pm.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t PM1_STS = 0;
constexpr std::uint64_t PM1_EN = 2;
constexpr std::uint64_t PM1_CNT = 4;
constexpr std::uint64_t PM_TMR = 8;
constexpr std::uint64_t END = 12;

// In PM1_STS and PM1_EN alike.
constexpr std::uint16_t TMR = 0x0001;
constexpr std::uint16_t GBL = 0x0020;
constexpr std::uint16_t PWRBTN = 0x0100;
constexpr std::uint16_t RTC = 0x0400;
constexpr std::uint16_t WAK = 0x8000;  // status only

constexpr std::uint16_t PM1_STS_BITS = TMR | GBL | PWRBTN | RTC | WAK;
constexpr std::uint16_t PM1_EN_BITS = TMR | GBL | PWRBTN | RTC;

constexpr std::uint16_t SCI_EN = 0x0001;
constexpr std::uint16_t BM_RLD = 0x0002;
constexpr std::uint16_t SLP_TYP = 0x1c00;  // bits 12:10
constexpr std::uint16_t SLP_EN = 0x2000;   // write-only
constexpr std::uint16_t SLP_TYP_S5 = 0x0000;
constexpr std::uint16_t SLP_TYP_S3 = 0x0400;

}  // namespace
}  // namespace spec

namespace {

constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
// Bit 31 changes every so many ticks, about ten minutes.
constexpr std::uint64_t kTicksPerToggle = std::uint64_t{1} << 31;

// Whole ticks in `now`. Seconds and the rest are taken apart, which is exact and cannot overflow.
std::uint64_t ticks_at(VmTime now) {
  const auto ns = static_cast<std::uint64_t>(std::max(now, VmTime{0}).count());
  return ns / kNanosecondsPerSecond * AcpiPm::kTimerHz +
         ns % kNanosecondsPerSecond * AcpiPm::kTimerHz / kNanosecondsPerSecond;
}

// The first nanosecond in which ticks_at() gives `ticks`, or nothing beyond the end of time.
std::optional<VmTime> time_of(std::uint64_t ticks) {
  const std::uint64_t seconds = ticks / AcpiPm::kTimerHz;
  const std::uint64_t rest = ticks % AcpiPm::kTimerHz;
  constexpr auto kLastSecond =
      static_cast<std::uint64_t>(std::numeric_limits<VmTime::rep>::max()) / kNanosecondsPerSecond;
  if (seconds >= kLastSecond) return std::nullopt;
  const std::uint64_t within =
      (rest * kNanosecondsPerSecond + AcpiPm::kTimerHz - 1) / AcpiPm::kTimerHz;
  return VmTime(static_cast<VmTime::rep>(seconds * kNanosecondsPerSecond + within));
}

// An access suits when it stays within one of the three blocks of four bytes.
Access check(std::uint64_t offset, std::size_t size) {
  if (offset >= spec::END) return Access::NoRegister;
  return offset % 4 + size <= 4 ? Access::Ok : Access::BadWidth;
}

}  // namespace

AcpiPm::AcpiPm(std::string name, IrqLine sci, Calls calls)
    : name_(std::move(name)), sci_(std::move(sci)), calls_(std::move(calls)) {}

void AcpiPm::reset() {
  state_ = {};
  sync_sci();
}

Access AcpiPm::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (const Access access = check(offset, data.size()); access != Access::Ok) return access;
  std::array<std::uint8_t, spec::END> registers{};
  store(registers, spec::PM1_STS, state_.pm1_sts);
  store(registers, spec::PM1_EN, state_.pm1_en);
  store(registers, spec::PM1_CNT, state_.pm1_cnt);
  store(registers, spec::PM_TMR,
        static_cast<std::uint32_t>(ticks_at(state_.now.value_or(VmTime{0}))));
  std::copy_n(registers.begin() + static_cast<std::ptrdiff_t>(offset), data.size(), data.begin());
  return Access::Ok;
}

Access AcpiPm::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (const Access access = check(offset, data.size()); access != Access::Ok) return access;
  if (offset >= spec::PM_TMR) return Access::Ok;  // read-only
  // Bytes that are not written keep their value; of PM1_STS they clear nothing.
  std::array<std::uint8_t, spec::PM_TMR> registers{};
  store(registers, spec::PM1_EN, state_.pm1_en);
  store(registers, spec::PM1_CNT, state_.pm1_cnt);
  std::copy(data.begin(), data.end(), registers.begin() + static_cast<std::ptrdiff_t>(offset));
  if (offset >= spec::PM1_CNT) {
    write_control(load<std::uint16_t>(registers, spec::PM1_CNT));
    return Access::Ok;
  }
  state_.pm1_sts &= static_cast<std::uint16_t>(~load<std::uint16_t>(registers, spec::PM1_STS));
  state_.pm1_en = load<std::uint16_t>(registers, spec::PM1_EN) & spec::PM1_EN_BITS;
  sync_sci();
  return Access::Ok;
}

void AcpiPm::write_control(std::uint16_t value) {
  state_.pm1_cnt = value & (spec::SCI_EN | spec::BM_RLD | spec::SLP_TYP);
  sync_sci();
  if ((value & spec::SLP_EN) == 0) return;
  const std::uint16_t type = value & spec::SLP_TYP;
  if (type == spec::SLP_TYP_S5 && calls_.power_off) calls_.power_off();
  if (type == spec::SLP_TYP_S3 && calls_.suspend) calls_.suspend();
}

void AcpiPm::advance(VmTime now) {
  const std::uint64_t before = ticks_at(state_.now.value_or(now)) / kTicksPerToggle;
  state_.now = now;
  if (ticks_at(now) / kTicksPerToggle == before) return;
  state_.pm1_sts |= spec::TMR;
  sync_sci();
}

// Once TMR_STS is set, further toggles change nothing.
std::optional<VmTime> AcpiPm::next_deadline() const {
  if ((state_.pm1_en & spec::TMR) == 0 || (state_.pm1_sts & spec::TMR) != 0) return std::nullopt;
  const std::uint64_t toggles = ticks_at(state_.now.value_or(VmTime{0})) / kTicksPerToggle;
  return time_of((toggles + 1) * kTicksPerToggle);
}

void AcpiPm::rtc_alarm() {
  state_.pm1_sts |= spec::RTC;
  sync_sci();
}

void AcpiPm::press_power_button() {
  state_.pm1_sts |= spec::PWRBTN;
  sync_sci();
}

bool AcpiPm::wake_requested() const {
  const std::uint16_t enabled = state_.pm1_en | spec::PWRBTN;
  return (state_.pm1_sts & enabled & (spec::RTC | spec::PWRBTN)) != 0;
}

void AcpiPm::woken() {
  state_.pm1_sts |= spec::WAK;
  state_.pm1_cnt |= spec::SCI_EN;
  sync_sci();
}

bool AcpiPm::sci_level() const {
  return (state_.pm1_cnt & spec::SCI_EN) != 0 && (state_.pm1_sts & state_.pm1_en) != 0;
}

void AcpiPm::visit(Archive& archive) {
  archive.block("acpi_pm", 1);
  archive("pm1_sts", state_.pm1_sts)("pm1_en", state_.pm1_en)("pm1_cnt", state_.pm1_cnt);
  archive("now", state_.now);
  state_.pm1_sts &= spec::PM1_STS_BITS;
  state_.pm1_en &= spec::PM1_EN_BITS;
  sci_.restore_level(sci_level());
}

}  // namespace vmm
