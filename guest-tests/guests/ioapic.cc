// The IOAPIC: a level-triggered line with remote IRR, edges, masks. The line is the serial port's,
// whose transmitter interrupt stays until it is served.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"

using namespace guest;

namespace {

constexpr uintptr_t kIoapic = 0xfec00000;
constexpr uint8_t kVector = 0x45;
constexpr uint32_t kPin = 4;
constexpr uint32_t kLevel = 1u << 15, kMasked = 1u << 16, kRemoteIrr = 1u << 14;

uint32_t ioapic_read(uint8_t index) {
  mmio_write<uint32_t>(kIoapic, index);
  return mmio_read<uint32_t>(kIoapic + 0x10);
}
void ioapic_write(uint8_t index, uint32_t value) {
  mmio_write<uint32_t>(kIoapic, index);
  mmio_write<uint32_t>(kIoapic + 0x10, value);
}
void route(uint32_t low) {
  ioapic_write(0x10 + 2 * kPin + 1, lapic_read(spec::APIC_ID));
  ioapic_write(0x10 + 2 * kPin, low);
}

Idt idt;
volatile uint32_t seen;
volatile uint32_t serve_at;
volatile bool remote_irr_seen;

void line_high() { out8(kCom1 + guest::spec::IER, 0x02); }
void line_low() { out8(kCom1 + guest::spec::IER, 0); }

__attribute__((interrupt)) void on_line(InterruptFrame*) {
  seen = seen + 1;
  remote_irr_seen = (ioapic_read(0x10 + 2 * kPin) & kRemoteIrr) != 0;
  if (seen >= serve_at) line_low();
  eoi();
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  out8(kCom1 + guest::spec::MCR, 0x0b);  // OUT2 lets the interrupt out
  init_pics(0);
  idt.set(kVector, on_line);
  idt.load();
  enable_lapic();
  require((ioapic_read(1) >> 16 & 0xff) == 23, "24 pins", 1);
  require((ioapic_read(0x10 + 2 * kPin) & kMasked) != 0, "masked at reset", 2);

  serve_at = 3;
  line_high();
  let_interrupts_in();
  require(seen == 0, "a masked pin is silent", 3);
  route(kVector | kLevel);
  for (int i = 0; i < 20; ++i) let_interrupts_in();
  require(seen == 3, "a level that stays comes again after each EOI", 4);
  require(remote_irr_seen, "remote IRR is set while it is served", 5);
  require((ioapic_read(0x10 + 2 * kPin) & kRemoteIrr) == 0, "and clear afterwards", 6);
  require(vector_in(spec::TMR, kVector), "the TMR says level", 7);

  seen = 0;
  route(kVector);  // edge
  line_high();
  for (int i = 0; i < 20; ++i) let_interrupts_in();
  require(seen == 1, "an edge comes once", 8);
  require(!vector_in(spec::TMR, kVector), "the TMR says edge", 9);
  line_low();
  line_high();
  let_interrupts_in();
  require(seen == 2, "and again at the next edge", 10);
  line_low();
  return 0;
}
