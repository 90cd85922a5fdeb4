// A PC as DOS knew it: the PIT through the 8259A and LINT0 in ExtINT mode, asleep between ticks.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"

using namespace guest;

namespace {
Idt idt;
volatile uint32_t ticks;
__attribute__((interrupt)) void on_tick(InterruptFrame*) {
  ticks = ticks + 1;
  out8(0x20, 0x20);
}
}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  idt.set(0x20, on_tick);
  idt.load();
  init_pics(1);
  out8(0x43, 0x34);  // channel 0, mode 2
  out8(0x40, 11932 & 0xff);
  out8(0x40, 11932 >> 8);
  for (int i = 0; i < 5; ++i) sleep();
  require(ticks >= 5, "the PIT wakes the CPU through the 8259A as the board leaves it", 1);

  out8(0x21, 0xff);
  let_interrupts_in();
  const uint32_t before = ticks;
  for (int i = 0; i < 5000; ++i) in8(0x80);
  let_interrupts_in();
  require(ticks == before, "a masked line is silent", 2);

  // Once more with the LAPIC enabled and LINT0 set by the guest.
  lapic_write(spec::SVR, 0x1ff);
  lapic_write(spec::LVT_LINT0, spec::LVT_EXTINT);
  out8(0x21, 0xfe);
  for (int i = 0; i < 5; ++i) sleep();
  require(ticks >= before + 5, "and through LINT0 of an enabled LAPIC", 3);

  lapic_write(spec::LVT_LINT0, spec::LVT_EXTINT | spec::LVT_MASKED);
  let_interrupts_in();
  const uint32_t then = ticks;
  for (int i = 0; i < 5000; ++i) in8(0x80);
  let_interrupts_in();
  require(ticks == then, "a masked LINT0 holds it back", 4);
  return 0;
}
