// Sleeps in HLT with interrupts on and every source masked: idle, but not lost. Ends by --timeout
// only.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/idt.h"

namespace {
guest::Idt idt;
__attribute__((interrupt)) void on_interrupt(guest::InterruptFrame*) { guest::out8(0x20, 0x20); }
}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  for (uint8_t vector = 0x20; vector < 0x30; ++vector) idt.set(vector, on_interrupt);
  idt.load();
  guest::init_pics(0);
  guest::print("idle: waiting for interrupts\n");
  while (true) asm volatile("sti\n\thlt");
}
