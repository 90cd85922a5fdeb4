// The fuzzer's interrupts: every gate counts and returns; #GP of an MSR is stepped over; a source
// that never lets an operation through is masked with all others.
#include "guest-tests/guests/fuzz.h"

using namespace guest;

extern "C" {
extern const uint8_t interrupt_stubs[];
extern uint8_t ap_stacks[];
void on_interrupt(uint64_t vector, InterruptFrame* frame, uint64_t has_error_code);
}

namespace fuzz {
namespace {

Idt idt;
constexpr uint32_t kStubSize = 16;
constexpr uint32_t kStackSize = 4096;  // of the other processors
constexpr uint8_t kNmi = 2, kGeneralProtection = 13;

constexpr uint32_t kStorm = 24;          // interrupts without an operation between
constexpr uint32_t kUnstoppable = 4000;  // after everything was masked
constexpr uint16_t kLvt[] = {0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370};
bool silencing;

void end_of_interrupt() {
  const uint64_t base = fuzzer.apic_base;
  if (in_x2apic(base))
    wrmsr(0x80b, 0);
  else if ((base & spec::BASE_ENABLE) != 0)
    mmio_write<uint32_t>((base & 0xfffff000) + spec::EOI, 0);
  if (interrupts.taken % 4 != 0) return;
  out8(0xa0, 0x20);
  out8(0x20, 0x20);
}

void count(uint64_t vector, const InterruptFrame& frame) {
  interrupts.taken = interrupts.taken + 1;
  interrupts.in_a_row = interrupts.in_a_row + 1;
  if (vector == kTimerVector) interrupts.timer = interrupts.timer + 1;
  if (interrupts.in_a_row > kUnstoppable) {
    print("vector ", hex(vector), "\n");
    give_up("interrupts stop when every source is masked, at RIP", frame.rip);
  }
  if (interrupts.in_a_row % kStorm == 0 && !silencing) {
    silencing = true;
    silence();
    interrupts.storms = interrupts.storms + 1;
    silencing = false;
  }
}

// RDMSR and WRMSR have two bytes.
void step_over_msr(uint64_t vector, InterruptFrame& frame) {
  const auto* code = reinterpret_cast<const uint8_t*>(frame.rip);
  if (vector != kGeneralProtection || code[0] != 0x0f || (code[1] != 0x30 && code[1] != 0x32)) {
    print("vector ", hex(vector), "\n");
    give_up("there is no fault but #GP of an MSR, at RIP", frame.rip);
  }
  frame.rip += 2;
  interrupts.faults = interrupts.faults + 1;
}

}  // namespace

void set_up_idt() {
  for (uint32_t vector = 0; vector < 256; ++vector)
    idt.set(static_cast<uint8_t>(vector),
            reinterpret_cast<void (*)()>(reinterpret_cast<uintptr_t>(interrupt_stubs) +
                                         vector * kStubSize));
}

void load_idt() { idt.load(); }

void silence() {
  if ((fuzzer.apic_base & ~uint64_t{0xfff}) != kLapic)
    write_apic_base((fuzzer.apic_base & 0xfff) | kLapic);
  for (uint32_t pin = 0; pin < 24; ++pin) {
    mmio_write<uint32_t>(0xfec00000, 0x10 + 2 * pin);
    mmio_write<uint32_t>(0xfec00010, spec::LVT_MASKED);
  }
  for (const uint16_t lvt : kLvt) {
    if (in_x2apic(fuzzer.apic_base))
      wrmsr(0x800u + (lvt >> 4), spec::LVT_MASKED);
    else
      lapic_write(lvt, spec::LVT_MASKED);
  }
  init_pics(0);
}

void calm() {
  interrupts_off();
  fuzzer.interrupts_on = false;
  silence();
  write_apic_base(kLapic | kBaseBootstrap);
  write_apic_base(kBaseAtReset);
  if (fuzzer.apic_base != kBaseAtReset)
    give_up("the LAPIC can be switched off and on, IA32_APIC_BASE is", fuzzer.apic_base);
  enable_lapic();
  lapic_write(spec::TPR, 0);
  lapic_write(spec::LVT_TIMER, spec::LVT_MASKED);
  lapic_write(spec::TIMER_INITIAL, 0);
  for (int i = 0; i < 16; ++i) eoi();  // one for each priority class
  // What was sent before is still in IRR: up to 240 vectors, which must not pass for a storm later.
  for (uint32_t before = ~interrupts.taken; before != interrupts.taken;) {
    before = interrupts.taken;
    interrupts.in_a_row = 0;
    let_interrupts_in();
  }
  interrupts.in_a_row = 0;
}

void give_up(const char* claim, uint64_t value) {
  interrupts_off();
  serial_init();
  print("\nFAILED  after ", decimal(fuzzer.operations), " operations: ", claim, " ", hex(value),
        "\n");
  exit_with(1);
}

}  // namespace fuzz

void on_interrupt(uint64_t vector, InterruptFrame* frame, uint64_t has_error_code) {
  using namespace fuzz;
  const uintptr_t above =
      reinterpret_cast<uintptr_t>(frame) - reinterpret_cast<uintptr_t>(ap_stacks);
  if (above < 64 * kStackSize) {
    if (has_error_code != 0) give_up("another processor has no fault, at RIP", frame->rip);
    volatile uint32_t& mine = progress[above / kStackSize];
    mine = mine + 1;
    if (vector != kNmi) eoi();
    return;
  }
  if (has_error_code != 0) return step_over_msr(vector, *frame);
  count(vector, *frame);
  if (vector != kNmi) end_of_interrupt();
}
