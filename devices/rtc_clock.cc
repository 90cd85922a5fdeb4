#include "devices/rtc_clock.h"

#include <algorithm>
#include <chrono>

namespace vmm {
namespace {

constexpr std::uint8_t kPm = 0x80;
constexpr std::uint8_t kDontCare = 0xc0;
constexpr int kYears = 10'000;

std::uint8_t get(const RtcRam& ram, RtcByte byte) { return ram[static_cast<std::size_t>(byte)]; }
void set(RtcRam& ram, RtcByte byte, std::uint8_t value) {
  ram[static_cast<std::size_t>(byte)] = value;
}

int decode(std::uint8_t value, RtcFormat format) {
  return format.binary ? value : (value >> 4) * 10 + (value & 0x0f);
}

// `value` is 0 to 99.
std::uint8_t encode(int value, RtcFormat format) {
  return static_cast<std::uint8_t>(format.binary ? value : value / 10 << 4 | value % 10);
}

// In 12-hour format bit 7 is PM, and 12 stands for 0.
int decode_hour(std::uint8_t value, RtcFormat format) {
  if (format.hours24) return decode(value, format);
  const int hour = decode(value & 0x7f, format);
  if (hour < 1 || hour > 12) return 24;  // no hour at all
  return hour % 12 + ((value & kPm) != 0 ? 12 : 0);
}

std::uint8_t encode_hour(int hour, RtcFormat format) {
  if (format.hours24) return encode(hour, format);
  const std::uint8_t pm = hour >= 12 ? kPm : 0;
  return encode(hour % 12 == 0 ? 12 : hour % 12, format) | pm;
}

// One alarm byte: every value, one value, or none.
struct Match {
  bool every = false;
  int value = 0;
  bool matches(std::int64_t candidate) const { return every || candidate == value; }
};

Match match_of(std::uint8_t raw, int value) {
  return {.every = (raw & kDontCare) == kDontCare, .value = value};
}

}  // namespace

void rtc_put(RtcRam& ram, RtcFormat format, std::int64_t seconds) {
  using namespace std::chrono;
  const std::int64_t of_day = (seconds % kRtcDay + kRtcDay) % kRtcDay;
  // 400 years are a whole number of weeks, so that wrapping keeps the calendar.
  constexpr std::int64_t kDaysOf10000Years = 146'097LL * 25;
  const std::int64_t epoch = -sys_days(year(0) / 1 / 1).time_since_epoch().count();
  std::int64_t day = (seconds - of_day) / kRtcDay + epoch;
  day = (day % kDaysOf10000Years + kDaysOf10000Years) % kDaysOf10000Years - epoch;
  const sys_days date{days(day)};
  const year_month_day ymd(date);
  set(ram, RtcByte::Seconds, encode(static_cast<int>(of_day % 60), format));
  set(ram, RtcByte::Minutes, encode(static_cast<int>(of_day / 60 % 60), format));
  set(ram, RtcByte::Hours, encode_hour(static_cast<int>(of_day / 3600), format));
  set(ram, RtcByte::DayOfWeek, encode(static_cast<int>(weekday(date).c_encoding()) + 1, format));
  set(ram, RtcByte::DayOfMonth, encode(static_cast<int>(unsigned{ymd.day()}), format));
  set(ram, RtcByte::Month, encode(static_cast<int>(unsigned{ymd.month()}), format));
  const int in_range = static_cast<int>(ymd.year()) % kYears;
  set(ram, RtcByte::Year, encode(in_range % 100, format));
  set(ram, RtcByte::Century, encode(in_range / 100, format));
}

std::int64_t rtc_get(const RtcRam& ram, RtcFormat format) {
  using namespace std::chrono;
  const auto field = [&](RtcByte byte, int low, int high) {
    return std::clamp(decode(get(ram, byte), format), low, high);
  };
  const int years = field(RtcByte::Century, 0, 99) * 100 + field(RtcByte::Year, 0, 99);
  const sys_days first(year(years) / field(RtcByte::Month, 1, 12) / 1);
  const std::int64_t day = first.time_since_epoch().count() + field(RtcByte::DayOfMonth, 1, 31) - 1;
  const int hour = std::clamp(decode_hour(get(ram, RtcByte::Hours), format), 0, 23);
  return day * kRtcDay + hour * 3600 + field(RtcByte::Minutes, 0, 59) * 60 +
         field(RtcByte::Seconds, 0, 59);
}

void rtc_advance(RtcRam& ram, RtcFormat format, std::int64_t seconds) {
  if (seconds == 0) return;
  const std::int64_t before = rtc_get(ram, format);
  const int weekday = decode(get(ram, RtcByte::DayOfWeek), format);
  rtc_put(ram, format, before + seconds);
  if (weekday < 1 || weekday > 7) return;
  const auto floor_day = [](std::int64_t s) {
    return (s - (s % kRtcDay + kRtcDay) % kRtcDay) / kRtcDay;
  };
  const std::int64_t midnights = floor_day(before + seconds) - floor_day(before);
  set(ram, RtcByte::DayOfWeek,
      encode(static_cast<int>((weekday - 1 + midnights % 7) % 7 + 1), format));
}

std::optional<std::int64_t> rtc_seconds_to_alarm(const RtcRam& ram, RtcFormat format) {
  const std::uint8_t raw_hour = get(ram, RtcByte::HoursAlarm);
  const std::uint8_t raw_minute = get(ram, RtcByte::MinutesAlarm);
  const std::uint8_t raw_second = get(ram, RtcByte::SecondsAlarm);
  const Match hour = match_of(raw_hour, decode_hour(raw_hour, format));
  const Match minute = match_of(raw_minute, decode(raw_minute, format));
  const Match second = match_of(raw_second, decode(raw_second, format));
  if ((!hour.every && hour.value > 23) || (!minute.every && minute.value > 59) ||
      (!second.every && second.value > 59))
    return std::nullopt;
  const std::int64_t now = (rtc_get(ram, format) % kRtcDay + kRtcDay) % kRtcDay;
  // Whole hours and minutes that do not match are stepped over: some 200 steps at most.
  for (std::int64_t at = now + 1; at <= now + kRtcDay;) {
    if (!hour.matches(at / 3600 % 24))
      at += 3600 - at % 3600;
    else if (!minute.matches(at / 60 % 60))
      at += 60 - at % 60;
    else if (!second.matches(at % 60))
      ++at;
    else
      return at - now;
  }
  return std::nullopt;
}

}  // namespace vmm
