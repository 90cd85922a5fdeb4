// What the parts of the fuzzer share: its numbers, its counters, the state of the processor it runs
// on.
#pragma once

#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/random.h"

namespace fuzz {

struct Fuzzer {
  guest::Random random{0};
  uint32_t operations = 0;  // accesses to ports, MMIO and MSRs so far
  bool interrupts_on = false;
  bool on_vmx = false;   // kvm_intel, which has one
  bool in_qemu = false;  // the svm lab, which has two faults that a guest cannot go through
  bool alone = true;     // there is no other processor
  uint32_t ram_end = 0;  // where nothing answers, below 4 GiB
  uint64_t apic_base = guest::kLapic | 0x900;  // as IA32_APIC_BASE was last read
};
inline constinit Fuzzer fuzzer;

// Where devices may write and string instructions find their bytes.
constexpr uint32_t kScratchSize = 16384;
alignas(4096) inline uint8_t scratch[kScratchSize];

inline void interrupts_off() { asm volatile("cli" : : : "memory"); }
inline void interrupts_as_chosen() {
  if (fuzzer.interrupts_on) asm volatile("sti" : : : "memory");
}

constexpr uint64_t kBaseBootstrap = 0x100;
constexpr uint64_t kBaseAtReset = guest::kLapic | guest::spec::BASE_ENABLE | kBaseBootstrap;
inline bool in_x2apic(uint64_t base) {
  return (base & guest::spec::BASE_X2APIC) != 0 && (base & guest::spec::BASE_ENABLE) != 0;
}
// Writes IA32_APIC_BASE, which may be refused, and keeps what it is now. With interrupts off: the
// handler must not see a mode that has gone.
inline void write_apic_base(uint64_t value) {
  guest::wrmsr(guest::spec::IA32_APIC_BASE, value);
  fuzzer.apic_base = guest::rdmsr(guest::spec::IA32_APIC_BASE);
}

// What the interrupt handler counts; it may come between any two instructions of an operation.
struct Interrupts {
  uint32_t taken = 0;
  uint32_t faults = 0;    // #GP of RDMSR and WRMSR
  uint32_t storms = 0;    // that only masking every source ended
  uint32_t in_a_row = 0;  // without an operation between
  uint32_t timer = 0;     // with kTimerVector
};
inline volatile Interrupts interrupts;
constexpr uint8_t kTimerVector = 0xef;
// What each of the other processors counts, on its own and when it is interrupted.
inline volatile uint32_t progress[64];

void set_up_idt();
void load_idt();
// Masks everything that can interrupt this processor.
void silence();
// silence(), and the LAPIC of this processor as after reset, then enabled, with nothing on its way:
// it is known from here on. Turns interrupts off.
void calm();

// Ends the run for a claim that does not hold.
[[noreturn]] void give_up(const char* claim, uint64_t value);

}  // namespace fuzz
