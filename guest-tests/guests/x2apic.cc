// The switch to x2APIC mode and what the MSRs give there; without CPUID.1.ECX[21] nothing is asked.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"

using namespace guest;

namespace {
Idt idt;
volatile uint32_t served;
__attribute__((interrupt)) void on_interrupt(InterruptFrame*) {
  served = served + 1;
  wrmsr(0x80b, 0);
}
}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  init_pics(0);
  idt.set(0x50, on_interrupt);
  idt.load();
  if ((cpuid(1).ecx >> 21 & 1) == 0) {
    print("ok      no x2APIC in CPUID\n");
    return 0;
  }
  enable_lapic();
  const uint32_t id = lapic_read(spec::APIC_ID) >> 24;
  wrmsr(spec::IA32_APIC_BASE, rdmsr(spec::IA32_APIC_BASE) | spec::BASE_X2APIC);
  require(rdmsr(0x802) == id, "the id is the same", 1);
  require(rdmsr(0x80f) == 0x1ff, "SVR keeps its value through the switch", 2);
  require(rdmsr(0x80d) == ((id >> 4) << 16 | 1u << (id & 15)), "LDR comes from the id", 3);
  wrmsr(0x83f, 0x50);
  let_interrupts_in();
  require(served == 1, "a self-IPI through 83Fh", 4);
  wrmsr(0x830, static_cast<uint64_t>(id) << 32 | 0x4050);
  let_interrupts_in();
  require(served == 2, "an IPI to a 32-bit id through 830h", 5);
  wrmsr(0x830, (uint64_t{0xffffffff} << 32) | 0x4050);
  let_interrupts_in();
  require(served == 3, "and to everyone", 6);
  wrmsr(0x838, 0);
  wrmsr(0x83e, spec::DIVIDE_BY_1);
  wrmsr(0x832, 0x50);
  wrmsr(0x838, 100000);
  for (int i = 0; i < 100000 && served < 4; ++i) let_interrupts_in();
  require(served == 4, "the timer", 7);
  return 0;
}
