// Who is served first: TPR, PPR, nested interrupts, EOI, self-IPIs, spurious and illegal vectors.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"

using namespace guest;

namespace {

Idt idt;
uint8_t order[16];
volatile uint32_t served;
volatile bool nest;

void self(uint8_t vector) {
  lapic_write(spec::ICR_LOW, spec::ICR_SELF | spec::ICR_ASSERT | vector);
}

__attribute__((interrupt)) void on_31(InterruptFrame*) {
  order[served] = 0x31;
  served = served + 1;
  if (nest) {
    nest = false;
    self(0x35);  // the same class: waits
    self(0x51);  // a higher one: now
    let_interrupts_in();
  }
  eoi();
}
__attribute__((interrupt)) void on_35(InterruptFrame*) {
  order[served] = 0x35;
  served = served + 1;
  eoi();
}
__attribute__((interrupt)) void on_51(InterruptFrame*) {
  order[served] = 0x51;
  served = served + 1;
  note(vector_in(spec::ISR, 0x51), "the vector being served is in ISR");
  require(!vector_in(spec::IRR, 0x51), "and no more in IRR", 21);
  eoi();
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  init_pics(0);
  idt.set(0x31, on_31);
  idt.set(0x35, on_35);
  idt.set(0x51, on_51);
  idt.load();
  enable_lapic();
  require((lapic_read(spec::VERSION) & 0xf0) == 0x10, "the LAPIC says its version", 1);

  self(0x31);
  self(0x51);
  self(0x35);
  require(vector_in(spec::IRR, 0x31) && vector_in(spec::IRR, 0x35), "IRR holds what came", 2);
  let_interrupts_in();
  require(served == 3 && order[0] == 0x51 && order[1] == 0x35 && order[2] == 0x31,
          "the highest vector goes first", 3);

  served = 0;
  nest = true;
  self(0x31);
  let_interrupts_in();
  require(served == 3 && order[0] == 0x31 && order[1] == 0x51 && order[2] == 0x35,
          "a higher class interrupts, the same one waits", 4);

  served = 0;
  lapic_write(spec::TPR, 0x30);
  self(0x31);
  self(0x51);
  let_interrupts_in();
  require(served == 1 && order[0] == 0x51, "the TPR holds its own class back", 5);
  require(lapic_read(spec::PPR) == 0x30, "and shows in the PPR", 6);
  lapic_write(spec::TPR, 0);
  let_interrupts_in();
  require(served == 2 && order[1] == 0x31, "until it is lowered", 7);

  served = 0;
  asm volatile("mov %0, %%cr8" : : "r"(uint64_t{5}) : "memory");
  require(lapic_read(spec::TPR) == 0x50, "CR8 is the TPR's class", 8);
  self(0x51);
  let_interrupts_in();
  require(served == 0, "CR8 holds back", 9);
  asm volatile("mov %0, %%cr8" : : "r"(uint64_t{0}) : "memory");
  let_interrupts_in();
  require(served == 1, "and lets in", 10);

  self(0x31);
  self(0x31);
  served = 0;
  let_interrupts_in();
  require(served == 1, "two of a kind before service are one", 11);

  // A software-disabled LAPIC takes nothing.
  lapic_write(spec::SVR, 0xff);
  self(0x31);
  let_interrupts_in();
  require(served == 1, "a disabled LAPIC takes nothing", 12);
  enable_lapic();

  lapic_write(spec::ESR, 0);
  self(0x05);
  lapic_write(spec::ESR, 0);
  note((lapic_read(spec::ESR) & 0x60) != 0, "vector 5 is illegal, says the ESR");
  return 0;
}
