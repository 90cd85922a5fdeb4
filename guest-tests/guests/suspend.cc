// Sleeps in S3 with registers that a power-on must clear, and is woken by the RTC's alarm into real
// mode. Ends with IA32_SYSENTER_ESP's low byte as it is there: 0 where the processor is as new.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"

using namespace guest;

namespace {

constexpr uint32_t IA32_SYSENTER_ESP = 0x175;
constexpr uintptr_t kFacsWakingVector = 0xe0040 + 12;
constexpr uintptr_t kWakingCode = 0x9000;
constexpr uint16_t kPm1Status = 0x600, kPm1Enable = 0x602, kPm1Control = 0x604;
constexpr uint16_t kRtcEvent = 1 << 10, kSleepS3 = 1 << 10 | 1 << 13;
constexpr uint8_t kDoNotCare = 0xc0;

// mov ecx, 175h; rdmsr; out 0f4h, al; hlt
constexpr uint8_t kCode[] = {0x66, 0xb9, 0x75, 0x01, 0x00, 0x00, 0x0f, 0x32, 0xe6, 0xf4, 0xf4};

void rtc_write(uint8_t index, uint8_t value) {
  out8(0x70, index);
  out8(0x71, value);
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  init_pics(0);
  enable_lapic();
  lapic_write(spec::LVT_TIMER, 0x40 | spec::LVT_MASKED);
  lapic_write(spec::TIMER_INITIAL, 0xffffffff);
  wrmsr(IA32_SYSENTER_ESP, 0x44);
  for (uintptr_t i = 0; i < sizeof kCode; ++i) mmio_write<uint8_t>(kWakingCode + i, kCode[i]);
  mmio_write<uint32_t>(kFacsWakingVector, kWakingCode);
  // An alarm each second.
  for (uint8_t index = 1; index <= 5; index = static_cast<uint8_t>(index + 2))
    rtc_write(index, kDoNotCare);
  rtc_write(0x0b, 0x22);
  out16(kPm1Status, 0xffff);
  out16(kPm1Enable, kRtcEvent);
  out16(kPm1Control, kSleepS3);
  require(false, "the processor sleeps", 99);
  return 99;
}
