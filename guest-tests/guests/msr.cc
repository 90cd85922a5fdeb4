// Reads and writes an MSR that does not exist and catches the #GP. Ends with 0, or the number of
// the claim that does not hold.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/idt.h"

namespace {

constexpr uint32_t kUnknown = 0xdead;
guest::Idt idt;
volatile uint32_t faults;

// RDMSR and WRMSR have two bytes; the handler goes on behind them.
__attribute__((interrupt)) void on_general_protection(guest::InterruptFrame* frame, uint64_t) {
  faults = faults + 1;
  // The compiler need not know that the frame is read after the return.
  volatile uint64_t& rip = frame->rip;
  rip = rip + 2;
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  idt.set(13, on_general_protection);
  idt.load();
  guest::rdmsr(0xc0000080);
  guest::require(faults == 0, "EFER reads without a fault", 1);
  guest::rdmsr(kUnknown);
  guest::require(faults == 1, "RDMSR of deadh is #GP", 2);
  guest::wrmsr(kUnknown, 1);
  guest::require(faults == 2, "WRMSR of deadh is #GP", 3);
  return 0;
}
