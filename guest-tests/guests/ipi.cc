// Processors that talk: ping-pong, broadcast, logical destinations, NMI, INIT of a running one.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/processors.h"

using namespace guest;

namespace {

Idt idt;
constexpr uint8_t kPing = 0x41, kPong = 0x42, kAll = 0x43;
uint32_t pings, pongs, broadcasts, nmis;
uint32_t turns;  // of those that are awake: none of them leaves the guest in a turn
uint32_t boot_id;

uint32_t get(const uint32_t& counter) { return __atomic_load_n(&counter, __ATOMIC_SEQ_CST); }
void count(uint32_t& counter) { __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST); }

__attribute__((interrupt)) void on_ping(InterruptFrame*) {
  count(pings);
  send_ipi(boot_id, spec::ICR_ASSERT | kPong);
  eoi();
}
__attribute__((interrupt)) void on_pong(InterruptFrame*) {
  count(pongs);
  eoi();
}
__attribute__((interrupt)) void on_all(InterruptFrame*) {
  count(broadcasts);
  eoi();
}
__attribute__((interrupt)) void on_nmi(InterruptFrame*) { count(nmis); }

// Interrupts on until `counter` is there; gives up after some seconds.
bool wait_for(const uint32_t& counter, uint32_t wanted) {
  for (uint32_t tries = 0; tries < 1000000 && get(counter) < wanted; ++tries) {
    let_interrupts_in();
    if (tries % 64 == 0) in8(0x80);  // others may need this host CPU
  }
  return get(counter) >= wanted;
}

}  // namespace

// On each of the others: serve interrupts for ever, asleep or, every second one, awake.
extern "C" void ap_main() {
  idt.load();
  enable_lapic();
  const uint32_t id = lapic_read(spec::APIC_ID) >> 24;
  lapic_write(spec::LDR, (1u << (id % 8)) << 24);
  processor_is_up();
  while (true) {
    if (id % 2 != 0) {
      sleep();
    } else {
      let_interrupts_in();
      count(turns);
    }
  }
}

// INIT takes a running processor away, asleep in HLT or awake; a SIPI brings it back.
void take_away(uint32_t index) {
  const uint32_t victim = processor_id(index);
  if (victim % 2 == 0) require(wait_for(turns, get(turns) + 2), "it is awake before INIT", 14);
  send_ipi(victim, spec::ICR_INIT);
  for (int i = 0; i < 1000; ++i) in8(0x80);
  const uint32_t before = get(pings);
  send_ipi(victim, spec::ICR_ASSERT | kPing);
  for (int i = 0; i < 1000; ++i) in8(0x80);
  require(get(pings) == before, "after INIT it serves nothing", 10);
  require(restart_processor(victim), "a SIPI starts it again", 11);
  send_ipi(victim, spec::ICR_ASSERT | kPing);
  require(wait_for(pings, before + 1), "and it serves again", 12);
}

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  init_pics(0);
  idt.set(2, on_nmi);
  idt.set(kPing, on_ping);
  idt.set(kPong, on_pong);
  idt.set(kAll, on_all);
  idt.load();
  enable_lapic();
  boot_id = lapic_read(spec::APIC_ID) >> 24;
  lapic_write(spec::LDR, (1u << (boot_id % 8)) << 24);
  const uint32_t count_all = processor_count();
  require(start_processors(count_all), "every processor came", 1);

  constexpr uint32_t kRounds = 50;
  for (uint32_t i = 0; i < processors_up(); ++i)
    for (uint32_t round = 1; round <= kRounds; ++round) {
      const uint32_t before = get(pongs);
      // One that is awake is past its EOI: only an interruption makes it see the ping.
      if (processor_id(i) % 2 == 0) require(wait_for(turns, get(turns) + 2), "it is awake", 13);
      send_ipi(processor_id(i), spec::ICR_ASSERT | kPing);
      if (!wait_for(pongs, before + 1)) {
        print("processor ", decimal(processor_id(i)), ", round ", decimal(round), "\n");
        require(false, "each ping gets its pong", 2);
      }
    }
  require(get(pings) == kRounds * (count_all - 1), "each ping gets its pong, and none two", 3);

  lapic_write(spec::ICR_LOW, spec::ICR_ALL_BUT_SELF | spec::ICR_ASSERT | kAll);
  require(wait_for(broadcasts, count_all - 1), "all but self are reached", 4);
  lapic_write(spec::ICR_LOW, spec::ICR_ALL | spec::ICR_ASSERT | kAll);
  require(wait_for(broadcasts, 2 * count_all - 1), "all are reached", 5);
  require(get(broadcasts) == 2 * count_all - 1, "and none twice", 6);

  if (count_all > 1 && count_all <= 8) {
    lapic_write(spec::ICR_HIGH, 0xff000000);
    lapic_write(spec::ICR_LOW, spec::ICR_LOGICAL | spec::ICR_ASSERT | kAll);
    require(wait_for(broadcasts, 3 * count_all - 1), "flat logical FFh reaches all", 7);
    lapic_write(spec::ICR_HIGH, (1u << (processor_id(0) % 8)) << 24);
    lapic_write(spec::ICR_LOW, spec::ICR_LOGICAL | spec::ICR_ASSERT | kAll);
    require(wait_for(broadcasts, 3 * count_all), "one bit reaches one", 8);
  }
  if (count_all == 1) return 0;

  lapic_write(spec::ICR_LOW, spec::ICR_ALL_BUT_SELF | spec::ICR_NMI);
  require(wait_for(nmis, count_all - 1), "an NMI reaches the others, asleep or not", 9);

  take_away(0);
  if (count_all > 2) take_away(1);
  return 0;
}
