// Every clock of the machine at once, for tests that stop it from outside: the PIT and a periodic
// LAPIC timer on the first processor, TSC deadlines (or a LAPIC timer) on the second, a slow
// one-shot timer on the third, and values in registers and MSRs that must stay. Ends with 0 once
// the tester has written to `tester_says_stop`.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/processors.h"

using namespace guest;

extern "C" {
volatile uint32_t pit_ticks, lapic_ticks, other_ticks, turns, tester_says_stop;
}

namespace {

Idt idt;
constexpr uint8_t kTimer = 0x40, kOther = 0x41;
constexpr uint32_t IA32_KERNEL_GS_BASE = 0xc0000102, IA32_SYSENTER_ESP = 0x175;
constexpr uint64_t kPattern = 0x5a17ed0123456789, kGsBase = 0x123456789000, kStack = 0x11223344;
constexpr uint32_t kTenMilliseconds = 10000000;  // of the LAPIC's bus
constexpr uint32_t kDivideBy16 = 0x3;
bool deadlines;

uint64_t tsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return static_cast<uint64_t>(high) << 32 | low;
}
void set_deadline() { wrmsr(spec::IA32_TSC_DEADLINE, tsc() + 20000000); }

__attribute__((interrupt)) void on_pit(InterruptFrame*) {
  pit_ticks = pit_ticks + 1;
  out8(0x20, 0x20);
}
__attribute__((interrupt)) void on_timer(InterruptFrame*) {
  lapic_ticks = lapic_ticks + 1;
  eoi();
}
__attribute__((interrupt)) void on_other(InterruptFrame*) {
  other_ticks = other_ticks + 1;
  if (deadlines) set_deadline();
  eoi();
}

// A turn with interrupts on that leaves the pattern in registers meanwhile.
bool keeps_registers() {
  uint64_t a = kPattern, b = ~kPattern;
  asm volatile(
      "mov %[p], %%r12\n\tmov %[q], %%r13\n\tsti\n\t"
      "mov $8, %%r14d\n1:\tin $0x80, %%al\n\tdec %%r14d\n\tjnz 1b\n\tcli\n\t"
      "mov %%r12, %[a]\n\tmov %%r13, %[b]"
      : [a] "=m"(a), [b] "=m"(b)
      : [p] "r"(kPattern), [q] "r"(~kPattern)
      : "rax", "r12", "r13", "r14", "memory");
  return a == kPattern && b == ~kPattern;
}

}  // namespace

extern "C" void ap_main() {
  idt.load();
  enable_lapic();
  const bool third = lapic_read(spec::APIC_ID) >> 24 == 2;
  lapic_write(spec::TIMER_DIVIDE, third ? kDivideBy16 : spec::DIVIDE_BY_1);
  if (third) {
    lapic_write(spec::LVT_TIMER, kOther | spec::LVT_MASKED);
    lapic_write(spec::TIMER_INITIAL, 0xffffffff);  // 68 seconds
  } else if (deadlines) {
    lapic_write(spec::LVT_TIMER, kOther | spec::LVT_TSC_DEADLINE);
    set_deadline();
  } else {
    lapic_write(spec::LVT_TIMER, kOther | spec::LVT_PERIODIC);
    lapic_write(spec::TIMER_INITIAL, kTenMilliseconds);
  }
  processor_is_up();
  while (true) sleep();
}

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  idt.set(0x20, on_pit);
  idt.set(kTimer, on_timer);
  idt.set(kOther, on_other);
  idt.load();
  init_pics(1);
  enable_lapic();
  lapic_write(spec::LVT_LINT0, spec::LVT_EXTINT);
  deadlines = (cpuid(1).ecx >> 24 & 1) != 0;
  wrmsr(IA32_KERNEL_GS_BASE, kGsBase);
  wrmsr(IA32_SYSENTER_ESP, kStack);
  require(start_processors(processor_count()), "every processor came", 1);
  out8(0x43, 0x34);  // PIT channel 0, mode 2, 10 ms
  out8(0x40, 11932 & 0xff);
  out8(0x40, 11932 >> 8);
  lapic_write(spec::TIMER_DIVIDE, spec::DIVIDE_BY_1);
  lapic_write(spec::LVT_TIMER, kTimer | spec::LVT_PERIODIC);
  lapic_write(spec::TIMER_INITIAL, kTenMilliseconds);
  while (tester_says_stop == 0) {
    turns = turns + 1;
    if (!keeps_registers()) require(false, "registers stay", 2);
    if (rdmsr(IA32_KERNEL_GS_BASE) != kGsBase) require(false, "KERNEL_GS_BASE stays", 3);
    if (rdmsr(IA32_SYSENTER_ESP) != kStack) require(false, "SYSENTER_ESP stays", 4);
  }
  return 0;
}
