// Something to look at with a debugger: a second processor that counts, a timer that ticks, a loop
// that works, and at last a write through a pointer that leads nowhere.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/processors.h"

using guest::print;

namespace {

constexpr uint8_t kTimerVector = 0x40, kPageFault = 14;

guest::Idt idt;

__attribute__((interrupt)) void on_timer(guest::InterruptFrame*);

}  // namespace

// Unmangled and global, so that they are easily named.
extern "C" {

void page_fault_entry();  // page_fault.S
volatile uint32_t ticks;
volatile uint32_t rounds_of_the_other;
volatile uint32_t sum;

// The second processor.
void ap_main() {
  rounds_of_the_other = 0;
  guest::processor_is_up();
  while (true) {
    rounds_of_the_other = rounds_of_the_other + 1;
    guest::in8(0x80);
  }
}

// One round of work.
[[gnu::noinline]] void work(uint32_t round) {
  for (uint32_t i = 0; i < 100; ++i) sum = sum + i * round;
  guest::let_interrupts_in();
}

[[gnu::noinline]] void write_through(uint32_t* pointer, uint32_t value) { *pointer = value; }

// Called by page_fault_entry.
[[gnu::noinline]] void page_fault(uint64_t address, uint64_t error_code) {
  print("gdb-attach: #PF at ", guest::hex(address), ", error code ", guest::hex(error_code), "\n");
}

}  // extern "C"

namespace {

void on_timer(guest::InterruptFrame*) {
  ticks = ticks + 1;
  guest::eoi();
}

void start_the_timer() {
  idt.set(kTimerVector, on_timer);
  idt.set(kPageFault, page_fault_entry);
  idt.load();
  guest::enable_lapic();
  guest::lapic_write(guest::spec::TIMER_DIVIDE, guest::spec::DIVIDE_BY_1);
  guest::lapic_write(guest::spec::LVT_TIMER, guest::spec::LVT_PERIODIC | kTimerVector);
  guest::lapic_write(guest::spec::TIMER_INITIAL, 1'000'000);  // 1 ms
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::init_pics(0);
  guest::start_processors(guest::processor_count());
  start_the_timer();
  uint32_t round = 0;
  while (ticks < 20) work(++round);
  print("gdb-attach: ", guest::decimal(ticks), " ticks in ", guest::decimal(round), " rounds\n");
  // 512 GiB: nobody has mapped that.
  write_through(reinterpret_cast<uint32_t*>(0x8000000000), 42);
  return 0;
}
