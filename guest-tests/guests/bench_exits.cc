// What leaving the guest costs, for tools/bench: port and memory accesses, IPIs between two
// processors, the ticks of a timer. The lines "begin NAME" and "done NAME" surround each part, so
// that who runs it can look at the host's clocks; "ticks NAME" gives the guest's own measure of one
// operation, the median and the least of its batches, in ticks of the TSC.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/processors.h"

using namespace guest;

namespace {

Idt idt;
constexpr uint8_t kPing = 0x41, kPong = 0x42, kTimer = 0x43, kSelf = 0x44;
constexpr uint32_t kBatches = 100;
constexpr uint32_t kUnroll = 16;

// Ports and addresses that mean the same on our board and on QEMU's pc.
constexpr uint16_t kUnclaimedPort = 0x240, kPort92 = 0x92, kPostPort = 0x80, kPmTimer = 0x608;
constexpr uintptr_t kUnclaimedAddress = 0xf0000000, kIoapic = 0xfec00000;
constexpr uint32_t kPmTimerHz = 3579545;
constexpr uint32_t kPmTimerMask = 0xffffff;

uint32_t pings, pongs, selves, timer_ticks;
uint32_t boot_id;
uint32_t samples[kBatches];

uint64_t tsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return static_cast<uint64_t>(high) << 32 | low;
}

uint32_t get(const uint32_t& counter) { return __atomic_load_n(&counter, __ATOMIC_SEQ_CST); }
void count(uint32_t& counter) { __atomic_store_n(&counter, counter + 1, __ATOMIC_SEQ_CST); }

__attribute__((interrupt)) void on_ping(InterruptFrame*) {
  count(pings);
  lapic_write(spec::ICR_LOW, spec::ICR_ASSERT | kPong);
  eoi();
}
__attribute__((interrupt)) void on_pong(InterruptFrame*) {
  count(pongs);
  eoi();
}
// How long ago the counter started anew is how late the tick is.
__attribute__((interrupt)) void on_timer(InterruptFrame*) {
  const uint32_t left = lapic_read(spec::TIMER_CURRENT);
  samples[timer_ticks % kBatches] = lapic_read(spec::TIMER_INITIAL) - left;
  count(timer_ticks);
  eoi();
}

// The numbers in `samples`, each of them one batch's.
void report(const char* unit, const char* name, uint32_t divisor) {
  for (uint32_t i = 1; i < kBatches; ++i)
    for (uint32_t j = i; j > 0 && samples[j] < samples[j - 1]; --j) {
      const uint32_t larger = samples[j - 1];
      samples[j - 1] = samples[j];
      samples[j] = larger;
    }
  print(unit, " ", name, " ", decimal(samples[kBatches / 2] / divisor), " ",
        decimal(samples[0] / divisor), "\n");
}

// `operation` does `each` of what is measured.
template <typename Operation>
void measure(const char* name, uint32_t each, const Operation& operation) {
  operation();
  print("begin ", name, "\n");
  for (uint32_t& sample : samples) {
    const uint64_t start = tsc();
    operation();
    sample = static_cast<uint32_t>(tsc() - start);
  }
  print("done ", name, " ", decimal(kBatches * each), "\n");
  report("ticks", name, each);
}

// The instructions stand in a row: where an emulator runs them, a loop around each would be a good
// part of the time.
void read_port(const char* name, uint16_t port) {
  measure(name, kUnroll, [port] {
    asm volatile(".rept %c1\n\tinb %0, %%al\n\t.endr" : : "d"(port), "i"(kUnroll) : "eax");
  });
}
void write_port(const char* name, uint16_t port) {
  measure(name, kUnroll, [port] {
    asm volatile(".rept %c1\n\toutb %%al, %0\n\t.endr" : : "d"(port), "i"(kUnroll), "a"(0));
  });
}
void read_memory(const char* name, uintptr_t address) {
  measure(name, kUnroll, [address] {
    asm volatile(".rept %c1\n\tmovl (%0), %%eax\n\t.endr"
                 :
                 : "r"(address), "i"(kUnroll)
                 : "eax", "memory");
  });
}

__attribute__((interrupt)) void on_self(InterruptFrame*) {
  count(selves);
  eoi();
}

// An IPI to oneself, until its handler was there.
void ipi_to_self() {
  measure("ipi-self", 1, [] {
    const uint32_t before = get(selves);
    asm volatile("sti");
    lapic_write(spec::ICR_LOW, spec::ICR_SELF | spec::ICR_ASSERT | kSelf);
    while (get(selves) == before) asm volatile("pause");
    asm volatile("cli");
  });
}

// One IPI there and one back.
void ping_pong(const char* name) {
  measure(name, 1, [] {
    const uint32_t before = get(pongs);
    lapic_write(spec::ICR_LOW, spec::ICR_ASSERT | kPing);
    asm volatile("sti");
    while (get(pongs) == before) asm volatile("pause");
    asm volatile("cli");
  });
}

// Ticks of the TSC in a millisecond, by the ACPI timer.
uint32_t measure_tsc_khz() {
  constexpr uint32_t kMilliseconds = 100;
  const uint32_t from = in32(kPmTimer);
  const uint64_t start = tsc();
  uint32_t elapsed = 0;
  uint64_t end = start;
  while (elapsed < kPmTimerHz / 1000 * kMilliseconds) {
    elapsed = (in32(kPmTimer) - from) & kPmTimerMask;
    end = tsc();
  }
  return static_cast<uint32_t>((end - start) * kPmTimerHz / 1000 / elapsed);
}

// What the other processor does between two interrupts, and whether it does that now.
uint32_t ap_sleeps, ap_mode = 2;

void set_ap_mode(uint32_t sleeps) {
  __atomic_store_n(&ap_sleeps, sleeps, __ATOMIC_SEQ_CST);
  // It looks when it was woken.
  const uint32_t before = get(pongs);
  lapic_write(spec::ICR_LOW, spec::ICR_ASSERT | kPing);
  asm volatile("sti");
  while (get(pongs) == before || get(ap_mode) != sleeps) asm volatile("pause");
  asm volatile("cli");
}

void measure_timer(uint32_t tsc_khz) {
  constexpr uint32_t kMilliseconds = 2000, kBusKhz = 1000000;
  lapic_write(spec::TIMER_DIVIDE, spec::DIVIDE_BY_1);
  lapic_write(spec::LVT_TIMER, spec::LVT_PERIODIC | kTimer);
  print("begin timer-tick\n");
  const uint64_t end = tsc() + static_cast<uint64_t>(tsc_khz) * kMilliseconds;
  lapic_write(spec::TIMER_INITIAL, kBusKhz);
  while (tsc() < end) sleep();
  lapic_write(spec::TIMER_INITIAL, 0);
  print("done timer-tick ", decimal(kMilliseconds), "\n");
  print("came timer-tick ", decimal(get(timer_ticks)), "\n");
  report("late-ns", "timer-tick", 1);
}

}  // namespace

extern "C" void ap_main() {
  idt.load();
  enable_lapic();
  lapic_write(spec::ICR_HIGH, boot_id << 24);
  processor_is_up();
  while (true) {
    const uint32_t sleeps = get(ap_sleeps);
    __atomic_store_n(&ap_mode, sleeps, __ATOMIC_SEQ_CST);
    if (sleeps != 0) {
      sleep();
      continue;
    }
    const uint32_t before = get(pings);
    asm volatile("sti");
    while (get(pings) == before) asm volatile("pause");
    asm volatile("cli");
  }
}

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  init_pics(0);
  idt.set(kPing, on_ping);
  idt.set(kPong, on_pong);
  idt.set(kTimer, on_timer);
  idt.set(kSelf, on_self);
  idt.load();
  enable_lapic();
  boot_id = lapic_read(spec::APIC_ID) >> 24;
  const uint32_t tsc_khz = measure_tsc_khz();
  print("tsc-khz ", decimal(tsc_khz), "\n");

  read_port("pio-in-unclaimed", kUnclaimedPort);
  read_port("pio-in-port92", kPort92);
  write_port("pio-out-80", kPostPort);
  read_memory("mmio-unclaimed", kUnclaimedAddress);
  read_memory("mmio-ioapic", kIoapic);
  read_memory("mmio-lapic", kLapic + spec::APIC_ID);
  ipi_to_self();
  measure_timer(tsc_khz);

  if (processor_count() < 2) return 0;
  if (!start_processors(2)) {
    print("a second processor did not come\n");
    return 2;
  }
  lapic_write(spec::ICR_HIGH, processor_id(0) << 24);
  set_ap_mode(0);
  ping_pong("ipi-awake");
  set_ap_mode(1);
  ping_pong("ipi-asleep");
  return 0;
}
