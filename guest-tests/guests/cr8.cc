// Writes CR8 in an interrupt handler while another interrupt waits for its end, as OVMF does at the
// end of each of its own. (QEMU 7.2's software SVM, as a host of KVM, dies of that.)
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"

using namespace guest;

namespace {

Idt idt;
volatile uint32_t first, second;

void write_cr8(uint64_t value) { asm volatile("mov %0, %%cr8" : : "r"(value) : "memory"); }
uint64_t read_cr8() {
  uint64_t value;
  asm volatile("mov %%cr8, %0" : "=r"(value));
  return value;
}

void self(uint8_t vector) {
  lapic_write(spec::ICR_LOW, spec::ICR_SELF | spec::ICR_ASSERT | vector);
}

[[gnu::interrupt]] void on_41(InterruptFrame*) {
  first = first + 1;
  self(0x51);  // of a higher class: waits for nothing but RFLAGS.IF
  const uint64_t priority = read_cr8();
  write_cr8(2);
  write_cr8(priority);
  eoi();
}
[[gnu::interrupt]] void on_51(InterruptFrame*) {
  second = second + 1;
  eoi();
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  constexpr uint32_t kRounds = 1000;
  serial_init();
  init_pics(0);
  idt.set(0x51, on_51);
  idt.set(0x41, on_41);
  idt.load();
  enable_lapic();
  for (uint32_t i = 0; i < kRounds; ++i) {
    self(0x41);
    let_interrupts_in();
  }
  require(first == kRounds && second == kRounds, "each interrupt comes once", 1);
  require(read_cr8() == 0, "CR8 is what it was", 2);
  return 0;
}
