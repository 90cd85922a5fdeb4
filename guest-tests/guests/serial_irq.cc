// Serial input and output driven by interrupts (COM1 on IRQ 4 of the 8259): sends back one line and
// ends with 0. Between interrupts the CPU sleeps in HLT.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/idt.h"

using guest::kCom1;
namespace spec = guest::spec;

namespace {

guest::Idt idt;

// Written and read with interrupts off only.
uint8_t waiting[256];
uint8_t head, tail;  // indices wrap by themselves
bool line_complete;
uint32_t received_interrupts, sent_interrupts;

void send(uint8_t byte) {
  waiting[head++] = byte;
  guest::out8(kCom1 + spec::IER, 0x03);  // ERBFI, ETBEI: an empty transmitter interrupts at once
}

void send(const char* text) {
  while (*text != '\0') send(static_cast<uint8_t>(*text++));
}

__attribute__((interrupt)) void on_serial_interrupt(guest::InterruptFrame*) {
  while (true) {
    const uint8_t iir = guest::in8(kCom1 + spec::IIR) & 0x0f;
    if ((iir & 1) != 0) break;
    if (iir == 0x04 || iir == 0x0c) {  // received data, or its time-out
      ++received_interrupts;
      while ((guest::in8(kCom1 + spec::LSR) & spec::LSR_DR) != 0) {
        uint8_t byte = guest::in8(kCom1 + spec::RBR);
        if (byte == '\r') byte = '\n';
        if (!line_complete) send(byte);
        line_complete = line_complete || byte == '\n';
      }
    } else if (iir == 0x02) {  // transmitter empty
      ++sent_interrupts;
      if (tail != head)
        guest::out8(kCom1 + spec::THR, waiting[tail++]);
      else
        guest::out8(kCom1 + spec::IER, 0x01);
    } else {
      guest::in8(kCom1 + spec::LSR);
      guest::in8(kCom1 + spec::MSR);
    }
  }
  guest::out8(0x20, 0x20);  // EOI
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  idt.set(0x24, on_serial_interrupt);
  idt.load();
  guest::serial_init();
  guest::out8(kCom1 + spec::MCR, 0x0b);  // DTR, RTS, and OUT2, which lets the interrupt out
  guest::init_pics(1u << 4);
  guest::out8(kCom1 + spec::IER, 0x01);
  send("type a line: ");
  while (!line_complete || tail != head) {
    asm volatile("sti\n\thlt\n\tcli" : : : "memory");
  }
  guest::out8(kCom1 + spec::IER, 0);
  guest::require(received_interrupts > 0, "received data interrupted", 1);
  guest::require(sent_interrupts > 0, "the empty transmitter interrupted", 2);
  return 0;
}
