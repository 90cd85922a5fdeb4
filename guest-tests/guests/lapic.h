// The local APIC through its page, as far as starting other processors needs it.
#pragma once

#include "guest-tests/guests/guest.h"

namespace guest {

constexpr uintptr_t kLapic = 0xfee00000;

namespace spec {
constexpr uintptr_t APIC_ID = 0x20, VERSION = 0x30, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0,
                    DFR = 0xe0, SVR = 0xf0, ISR = 0x100, TMR = 0x180, IRR = 0x200, ESR = 0x280,
                    ICR_LOW = 0x300, ICR_HIGH = 0x310, LVT_TIMER = 0x320, LVT_LINT0 = 0x350,
                    TIMER_INITIAL = 0x380, TIMER_CURRENT = 0x390, TIMER_DIVIDE = 0x3e0;
constexpr uint32_t LVT_MASKED = 0x10000, LVT_PERIODIC = 0x20000, LVT_TSC_DEADLINE = 0x40000,
                   LVT_EXTINT = 0x700, DIVIDE_BY_1 = 0xb;
constexpr uint32_t ICR_NMI = 0x4400, ICR_ASSERT = 0x4000, ICR_SELF = 0x40000, ICR_ALL = 0x80000,
                   ICR_LOGICAL = 0x800;
constexpr uint32_t IA32_APIC_BASE = 0x1b, IA32_TSC_DEADLINE = 0x6e0;
constexpr uint64_t BASE_X2APIC = 0x400, BASE_ENABLE = 0x800;
constexpr uint32_t ICR_INIT = 0x4500, ICR_STARTUP = 0x4600, ICR_ALL_BUT_SELF = 0xc0000,
                   ICR_DELIVERY_PENDING = 0x1000;
}  // namespace spec

inline uint32_t lapic_read(uintptr_t offset) { return mmio_read<uint32_t>(kLapic + offset); }
inline void lapic_write(uintptr_t offset, uint32_t value) {
  mmio_write<uint32_t>(kLapic + offset, value);
}

inline void enable_lapic() { lapic_write(spec::SVR, 0x1ff); }
inline void eoi() { lapic_write(spec::EOI, 0); }
// Sends `command` to the processor with APIC id `id`.
inline void send_ipi(uint32_t id, uint32_t command) {
  lapic_write(spec::ICR_HIGH, id << 24);
  lapic_write(spec::ICR_LOW, command);
}
inline bool vector_in(uintptr_t bitmap, uint8_t vector) {
  return (lapic_read(bitmap + (vector / 32) * 0x10u) >> (vector % 32) & 1) != 0;
}

// Interrupts on for long enough that what is pending is taken, then off. Where KVM emulates ring 0
// (kvm_pvm) it lets interrupts in at exits only, so there are some.
inline void let_interrupts_in() {
  asm volatile("sti" : : : "memory");
  for (int i = 0; i < 6; ++i) in8(0x80);
  asm volatile("cli" : : : "memory");
}
// Sleeps until an interrupt, then off again.
inline void sleep() { asm volatile("sti\n\thlt\n\tcli" : : : "memory"); }

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
