// What the parts of chip_sequence share: the numbers, the log, the interrupts that were taken.
#pragma once

#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/random.h"

namespace guest::chips {

// What a handler does besides noting its vector.
enum class Ending : uint8_t {
  None,      // no EOI: the sequence gives one later
  Eoi,       // EOI, then back
  Nest,      // lets others in, then EOI
  EoiFirst,  // EOI, then lets others in
  kEndings
};

enum class Subject : uint8_t { Lapic, X2apic, Ioapic, Pic, Pit, kSubjects };

struct World {
  Random random{1};
  Subject subject = Subject::Lapic;
  Ending ending = Ending::Eoi;
  bool lower_first = true;    // a handler lowers its line before the EOI, else after it
  bool open = false;          // interrupts are let in after each operation
  bool x2apic = false;        // the LAPIC is in x2APIC mode
  unsigned reads = 8;         // exits until a pending interrupt has surely come
  uint32_t raised = 0;        // lines of the test device that are high
  uint8_t line_vector[24]{};  // what the guest last made of each line
};
inline World world;

// A number of a log line, or none.
struct Field {
  uint64_t value = 0;
  bool present = false;
};
constexpr Field kNothing{};
constexpr Field field(uint64_t value) { return {value, true}; }

// Finishes an operation: lets interrupts in if they are on, then writes the line
// "OPERATION ADDRESS WRITTEN READ : VECTORS", vectors as they were taken since the last line.
void record(const char* operation, uint64_t address, Field written, Field read);
// The line "# SUBJECT NUMBER" or "# SUBJECT NUMBER loose" that begins an episode.
void record_episode(const char* subject, uint32_t number);

// Lets in what is pending, with World::reads exits: some hosts inject only then.
void let_in();
// Forgets what was taken, for what an episode's beginning takes.
void forget_taken();

// Line `n` of the test device, whose ports begin at 2000h.
void set_line(unsigned n, bool level);
void lower_all_lines();
// Those no device of the board drives: not timer, cascade, COM1, clock and SCI.
constexpr uint8_t kFreeLines[] = {5, 6, 7, 10, 11, 12, 14, 15, 16, 17, 19, 21, 22, 23};
constexpr unsigned kIsaFreeLines = 8;  // of them, below 16

// A register access that may be #GP; false if it was.
bool try_rdmsr(uint32_t index, uint64_t& value);
bool try_wrmsr(uint32_t index, uint64_t value);

// The ACPI timer: the board's own with every chip. 24 bits.
constexpr uint16_t kPmTimer = 0x608;
constexpr uint32_t kPmTimerHz = 3579545;

inline uint64_t read_cr8() {
  uint64_t value;
  asm volatile("mov %%cr8, %0" : "=r"(value));
  return value;
}
inline void write_cr8(uint64_t value) { asm volatile("mov %0, %%cr8" : : "r"(value) : "memory"); }

inline uint32_t below(uint32_t n) { return world.random.below(n); }
inline bool one_in(uint32_t n) { return world.random.one_in(n); }
template <typename T, unsigned n>
T pick(const T (&from)[n]) {
  return from[below(n)];
}

// Vectors of each priority class that LAPIC and IOAPIC operations use, and that of the error LVT.
constexpr uint8_t kVectors[] = {0x31, 0x35, 0x3f, 0x42, 0x51, 0x5e,
                                0x75, 0x90, 0xa1, 0xc3, 0xd0, 0xfe};
constexpr uint8_t kErrorVector = 0xe5;

// Brings the LAPIC to a known state, from whatever state and mode; nothing is pending or in
// service.
void reset_lapic();
bool has_x2apic();
// The 8259A pair at vectors 20h and 28h, all masked, nothing in service, edges.
void reset_pics();
void reset_ioapic();
// Counter 0 stands still with OUT low.
void stop_pit();
void end_of_interrupt();  // of the LAPIC in its present mode
// The line of the 8259A pair that gives `vector` now, or 16.
unsigned pic_line(uint8_t vector);
void end_pic_interrupt(uint8_t vector);

// One operation of a subject each.
void lapic_operation();
void x2apic_operation();
void ioapic_operation();
void pic_operation();
void pit_operation();
// The beginning of a subject's episode, after the resets.
void begin_x2apic();
void begin_pic();
bool is_loose();  // whether the 8259A's episode does what no driver would
void begin_pit();

}  // namespace guest::chips
