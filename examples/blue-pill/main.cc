// Starts every processor, lets each swallow the pill, and goes on as before: the others answer
// interrupts, a timer ticks. At the end each spits it out again.
#include "examples/blue-pill/blue_pill.h"
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/processors.h"

namespace {

using namespace guest;

constexpr uint8_t kIpiVector = 0x40, kTimerVector = 0x41;

Idt idt;
uint32_t next_index, under, answered, out, ticks;
uint32_t stage;  // 0: come, 1: answer IPIs, 2: spit it out

[[gnu::interrupt]] void on_ipi(InterruptFrame*) {
  __atomic_add_fetch(&answered, 1, __ATOMIC_SEQ_CST);
  eoi();
}
[[gnu::interrupt]] void on_timer(InterruptFrame*) {
  __atomic_add_fetch(&ticks, 1, __ATOMIC_SEQ_CST);
  eoi();
}

uint32_t load(const uint32_t& counter) { return __atomic_load_n(&counter, __ATOMIC_SEQ_CST); }

// A port access each time lets the others run where all share one host CPU.
bool wait_for(const uint32_t& counter, uint32_t wanted) {
  for (uint32_t tries = 0; tries < 5000000 && load(counter) < wanted; ++tries) in8(0x80);
  return load(counter) >= wanted;
}

}  // namespace

void ap_main() {
  const uint32_t index = __atomic_add_fetch(&next_index, 1, __ATOMIC_SEQ_CST);
  idt.load();
  enable_lapic();
  processor_is_up();
  if (!blue_pill::swallow(index)) return;
  if (!blue_pill::is_under()) return;
  __atomic_add_fetch(&under, 1, __ATOMIC_SEQ_CST);
  while (load(stage) < 2) let_interrupts_in();
  blue_pill::spit_out();
  if (!blue_pill::is_under()) __atomic_add_fetch(&out, 1, __ATOMIC_SEQ_CST);
}

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  const uint32_t count = processor_count();
  print("blue-pill: ", decimal(count), " processor", count == 1 ? "" : "s", ", ",
        blue_pill::vendor(), "\n");
  if (count > blue_pill::kMaxProcessors) return 2;
  idt.set(kIpiVector, on_ipi);
  idt.set(kTimerVector, on_timer);
  idt.load();
  enable_lapic();
  if (!blue_pill::swallow(0)) return 3;
  require(blue_pill::is_under(), "CPUID is the hypervisor's: this is L2 now", 4);

  require(start_processors(count), "the others come, by INIT and SIPI from L2", 5);
  require(wait_for(under, count - 1), "and each swallows the pill", 6);

  if (count > 1) lapic_write(spec::ICR_LOW, spec::ICR_ALL_BUT_SELF | spec::ICR_ASSERT | kIpiVector);
  require(wait_for(answered, count - 1), "an IPI from L2 reaches every other L2", 7);

  lapic_write(spec::TIMER_DIVIDE, spec::DIVIDE_BY_1);
  lapic_write(spec::LVT_TIMER, spec::LVT_PERIODIC | kTimerVector);
  lapic_write(spec::TIMER_INITIAL, 1000000);
  for (uint32_t tries = 0; tries < 1000000 && load(ticks) < 3; ++tries) let_interrupts_in();
  lapic_write(spec::LVT_TIMER, spec::LVT_MASKED);
  require(load(ticks) >= 3, "the LAPIC's timer ticks in L2", 8);

  __atomic_store_n(&stage, 2, __ATOMIC_SEQ_CST);
  require(wait_for(out, count - 1), "the others spit it out", 9);
  blue_pill::spit_out();
  require(!blue_pill::is_under(), "and so does the first", 10);
  return 0;
}
