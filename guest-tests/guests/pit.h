// The PIT's channel 2 behind port 61h: a second clock to measure others by.
#pragma once

#include "guest-tests/guests/guest.h"

namespace guest {

constexpr uint32_t kPitHz = 1193182;

// Starts channel 2 counting `ticks` down once (mode 0); pit_done() tells when they are over.
inline void pit_start(uint16_t ticks) {
  out8(0x61, static_cast<uint8_t>((in8(0x61) & ~0x02) | 0x01));  // gate on, speaker off
  out8(0x43, 0xb0);
  out8(0x42, static_cast<uint8_t>(ticks));
  out8(0x42, static_cast<uint8_t>(ticks >> 8));
}
inline bool pit_done() { return (in8(0x61) & 0x20) != 0; }

}  // namespace guest
