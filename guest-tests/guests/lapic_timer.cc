// The LAPIC timer in its modes, and its rate against the PIT.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/pit.h"

using namespace guest;

namespace {

Idt idt;
volatile uint32_t ticks;

__attribute__((interrupt)) void on_timer(InterruptFrame*) {
  ticks = ticks + 1;
  eoi();
}
__attribute__((interrupt)) void on_spurious(InterruptFrame*) {}

constexpr uint8_t kVector = 0x40;

// Lets interrupts in until `wanted` ticks have come, for at most some seconds.
void wait_for_ticks(uint32_t wanted) {
  for (uint32_t tries = 0; tries < 2000 && ticks < wanted; ++tries) {
    pit_start(11932);  // 10 ms
    while (!pit_done() && ticks < wanted) let_interrupts_in();
  }
}

// Nothing may come for 20 ms.
uint32_t ticks_in_quiet_time() {
  const uint32_t before = ticks;
  pit_start(23864);
  while (!pit_done()) let_interrupts_in();
  return ticks - before;
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  init_pics(0);
  idt.set(kVector, on_timer);
  idt.set(0xff, on_spurious);
  idt.load();
  enable_lapic();
  lapic_write(spec::TIMER_DIVIDE, spec::DIVIDE_BY_1);

  lapic_write(spec::LVT_TIMER, kVector);
  lapic_write(spec::TIMER_INITIAL, 1000000);
  wait_for_ticks(1);
  require(ticks == 1, "one-shot fires", 1);
  require(lapic_read(spec::TIMER_CURRENT) == 0, "and its count stays at 0", 2);
  require(ticks_in_quiet_time() == 0, "and fires once", 3);

  lapic_write(spec::LVT_TIMER, kVector | spec::LVT_MASKED);
  lapic_write(spec::TIMER_INITIAL, 100000);
  require(ticks_in_quiet_time() == 0, "a masked timer is silent", 4);
  require(lapic_read(spec::TIMER_CURRENT) == 0, "but counts", 5);

  lapic_write(spec::LVT_TIMER, kVector | spec::LVT_PERIODIC);
  ticks = 0;
  lapic_write(spec::TIMER_INITIAL, 2000000);
  wait_for_ticks(5);
  require(ticks >= 5, "periodic goes on", 6);
  lapic_write(spec::TIMER_INITIAL, 0);
  let_interrupts_in();
  require(ticks_in_quiet_time() == 0, "an initial count of 0 stops it", 7);

  // 50 ms by the PIT are 50 000 000 ticks of the 1 GHz bus. A vCPU that was not scheduled between
  // the two reads makes the count too large, never too small: the best of some tries counts.
  lapic_write(spec::LVT_TIMER, kVector | spec::LVT_MASKED);
  uint32_t best = 0xffffffff;
  for (int i = 0; i < 8 && best > 55000000; ++i) {
    lapic_write(spec::TIMER_INITIAL, 0xffffffff);
    pit_start(59659);
    const uint32_t from = lapic_read(spec::TIMER_CURRENT);
    while (!pit_done()) {
    }
    const uint32_t elapsed = from - lapic_read(spec::TIMER_CURRENT);
    if (elapsed < best) best = elapsed;
  }
  print("50 ms are ", decimal(best), " ticks\n");
  require(best > 48000000, "the bus clock is not slower than 1 GHz", 8);
  require(best < 65000000, "nor faster", 9);

  if ((cpuid(1).ecx >> 24 & 1) == 0) {
    print("ok      no TSC-deadline timer in CPUID\n");
    return 0;
  }
  lapic_write(spec::LVT_TIMER, kVector | spec::LVT_TSC_DEADLINE);
  ticks = 0;
  const auto tsc = [] {
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return static_cast<uint64_t>(high) << 32 | low;
  };
  const uint64_t deadline = tsc() + 5000000;
  wrmsr(spec::IA32_TSC_DEADLINE, deadline);
  wait_for_ticks(1);
  require(ticks == 1, "the TSC deadline fires", 10);
  require(tsc() >= deadline, "not before its time", 11);
  require(rdmsr(spec::IA32_TSC_DEADLINE) == 0, "and the MSR reads 0 then", 12);
  wrmsr(spec::IA32_TSC_DEADLINE, tsc() + 1000000000000);
  wrmsr(spec::IA32_TSC_DEADLINE, 0);
  require(ticks_in_quiet_time() == 0, "0 disarms it", 13);
  return 0;
}
