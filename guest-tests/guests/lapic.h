// The local APIC through its page, as far as starting other processors needs it.
#pragma once

#include "guest-tests/guests/guest.h"

namespace guest {

constexpr uintptr_t kLapic = 0xfee00000;

namespace spec {
constexpr uintptr_t APIC_ID = 0x20, SVR = 0xf0, ICR_LOW = 0x300, ICR_HIGH = 0x310;
constexpr uint32_t ICR_INIT = 0x4500, ICR_STARTUP = 0x4600, ICR_ALL_BUT_SELF = 0xc0000,
                   ICR_DELIVERY_PENDING = 0x1000;
}  // namespace spec

inline uint32_t lapic_read(uintptr_t offset) { return mmio_read<uint32_t>(kLapic + offset); }
inline void lapic_write(uintptr_t offset, uint32_t value) {
  mmio_write<uint32_t>(kLapic + offset, value);
}

// INIT and two SIPIs to every processor but this one: they start in real mode at `page` (below
// 1 MiB).
inline void start_other_processors(uint32_t page) {
  lapic_write(spec::SVR, 0x1ff);
  const auto send = [](uint32_t command) {
    lapic_write(spec::ICR_LOW, spec::ICR_ALL_BUT_SELF | command);
    while ((lapic_read(spec::ICR_LOW) & spec::ICR_DELIVERY_PENDING) != 0) {
    }
  };
  send(spec::ICR_INIT);
  send(spec::ICR_STARTUP | page >> 12);
  send(spec::ICR_STARTUP | page >> 12);
}

// Logical processors of the package: CPUID 0Bh counts them, 1.EBX[23:16] only gives the room that
// their APIC IDs take, a power of two.
inline uint32_t processor_count() {
  if (cpuid(0).eax >= 0xb) {
    const CpuidRegs core = cpuid(0xb, 1);
    if ((core.ecx >> 8 & 0xff) == 2) return core.ebx & 0xffff;
  }
  const uint32_t count = (cpuid(1).ebx >> 16) & 0xff;
  return count == 0 ? 1 : count;
}

}  // namespace guest
