// The calendar of the MC146818: the ten bytes of time and alarm, in BCD or binary, 12 or 24 hours.
// Pure functions over the registers, for RtcCmos.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace vmm {

// Where each byte lies in CMOS RAM; the century is what PC firmware agreed on.
enum class RtcByte : std::uint8_t {
  Seconds = 0x00,
  SecondsAlarm = 0x01,
  Minutes = 0x02,
  MinutesAlarm = 0x03,
  Hours = 0x04,
  HoursAlarm = 0x05,
  DayOfWeek = 0x06,  // 1 is Sunday
  DayOfMonth = 0x07,
  Month = 0x08,
  Year = 0x09,
  Century = 0x32,
};

// Register B bits 2 and 1.
struct RtcFormat {
  bool binary = false;
  bool hours24 = true;

  bool operator==(const RtcFormat&) const = default;
};

constexpr std::int64_t kRtcDay = 86'400;  // seconds

using RtcRam = std::array<std::uint8_t, 128>;

// Puts `seconds` since 1970-01-01 00:00:00 UTC into the time bytes; years 0 to 9999, others wrap.
void rtc_put(RtcRam& ram, RtcFormat format, std::int64_t seconds);
// What the time bytes say. Bytes out of range count as the nearest in range.
std::int64_t rtc_get(const RtcRam& ram, RtcFormat format);
// Lets `seconds` (not negative) pass. A day of the week that does not fit the date goes on from
// where it is.
void rtc_advance(RtcRam& ram, RtcFormat format, std::int64_t seconds);
// How many seconds after the time of day in `ram` the alarm comes, 1 to a day. Nothing if it never
// comes: an alarm byte is neither a time nor C0h to FFh, which is every time.
std::optional<std::int64_t> rtc_seconds_to_alarm(const RtcRam& ram, RtcFormat format);

}  // namespace vmm
