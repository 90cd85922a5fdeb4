// The LAPIC's operations, through its page and through the MSRs of x2APIC mode.
#include "guest-tests/guests/chip_sequence.h"

namespace guest::chips {
namespace {

constexpr uint32_t kX2apicMsrs = 0x800;
constexpr uint16_t kReadable[] = {0x20,  0x30,  0x80,  0xa0,  0xd0,  0xe0,  0xf0,  0x280, 0x300,
                                  0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0};
constexpr uint16_t kBitmaps[] = {spec::ISR, spec::TMR, spec::IRR};
constexpr uint16_t kLvts[] = {0x320, 0x330, 0x340, 0x350, 0x360, 0x370};
constexpr uint32_t kLvtMode[] = {0, 0x100, 0x200, 0x400, 0x700};
constexpr uint16_t kLvtError = 0x370;

uint32_t read_register(uint32_t offset) {
  return world.x2apic ? static_cast<uint32_t>(rdmsr(kX2apicMsrs + offset / 16))
                      : lapic_read(offset);
}
void write_register(uint32_t offset, uint32_t value) {
  if (world.x2apic)
    wrmsr(kX2apicMsrs + offset / 16, value);
  else
    lapic_write(offset, value);
}

// In x2APIC mode each access may be #GP: it reads as dead.
void logged_read(uint32_t offset) {
  uint64_t value = 0xdead;
  if (!world.x2apic)
    value = lapic_read(offset);
  else if (!try_rdmsr(kX2apicMsrs + offset / 16, value))
    value = 0xdead;
  if (offset == spec::TIMER_CURRENT) value = value != 0 ? 1 : 0;
  record("read", offset, kNothing, field(value));
}
void logged_write(uint32_t offset, uint32_t value) {
  if (!world.x2apic) {
    lapic_write(offset, value);
    return record("write", offset, field(value), kNothing);
  }
  const bool done = try_wrmsr(kX2apicMsrs + offset / 16, value);
  record("write", offset, field(value), field(done ? 0 : 0xdead));
}

void any_read() {
  if (one_in(2))
    logged_read(pick(kBitmaps) + 0x10 * below(8));
  else if (one_in(8))
    logged_read(spec::TIMER_CURRENT);
  else
    logged_read(pick(kReadable));
}

// A legal entry: no source but the timer and the error can fire.
uint32_t random_lvt(uint16_t offset) {
  // Reserved bits are to read 0, and to be #GP in x2APIC mode.
  if (one_in(world.x2apic ? 200 : 24)) return world.random.next32() | spec::LVT_MASKED;
  uint32_t value = offset == kLvtError ? kErrorVector : pick(kVectors);
  if (one_in(2)) value |= spec::LVT_MASKED;
  if (offset == spec::LVT_TIMER) return value | (one_in(4) ? spec::LVT_PERIODIC : 0);
  if (offset != kLvtError) value |= pick(kLvtMode);
  if (offset == spec::LVT_LINT0 || offset == 0x360) value |= pick({0u, 0x2000u, 0x8000u, 0xa000u});
  return value;
}

uint32_t random_command() {
  uint32_t command = pick(kVectors) | (one_in(8) ? 0 : spec::ICR_ASSERT);
  if (one_in(120)) command = (command & ~0xffu) | below(16);  // an illegal vector
  if (one_in(120)) command |= 0x8000;                         // level: ignored but for INIT
  switch (below(8)) {
    case 0:
    case 1:
      return command | spec::ICR_SELF;
    case 2:
      return command | spec::ICR_ALL;
    case 3:
      return command | spec::ICR_ALL_BUT_SELF;
    case 4:
      return command | spec::ICR_LOGICAL;
    case 5:
      return command | spec::ICR_LOGICAL | 0x100;  // lowest priority
    case 6:
      return command | (one_in(2) ? 0x100 : 0);
    default:
      return one_in(4) ? spec::ICR_NMI : command;
  }
}

uint32_t random_destination() {
  return pick({0u, 0u, 0u, 1u, 5u, 0xffu, 0x10u, 0x11u, 0x21u, 0x80u, 0xf1u});
}

// Interrupts on for a while, or from now on after each operation, or off.
void window() {
  const uint32_t kind = below(8);
  if (kind < 6) {
    let_in();
    record("window", 0, kNothing, kNothing);
    return;
  }
  world.open = kind == 6;
  record(world.open ? "open" : "shut", 0, kNothing, kNothing);
}

void change_ending() {
  world.ending = static_cast<Ending>(below(static_cast<uint32_t>(Ending::kEndings)));
  record("ending", static_cast<uint32_t>(world.ending), kNothing, kNothing);
}

void task_priority() {
  if (one_in(2)) {
    const uint32_t value = below(12) << 4 | (one_in(4) ? below(16) : 0);
    logged_write(spec::TPR, value);
  } else if (one_in(2)) {
    // After a window nothing waits for one any more: QEMU 7.2's software SVM aborts at a write to
    // CR8 while KVM has an interrupt window open.
    let_in();
    const uint32_t value = below(12);
    write_cr8(value);
    record("cr8", 0, field(value), field(read_cr8()));
  } else {
    record("cr8", 0, kNothing, field(read_cr8()));
  }
}

// Until the count is 0 and, where it `comes`, `vector` is requested; `limit` ticks of the ACPI
// timer at most: a busy host can be late.
void wait_for_timer(uint8_t vector, bool comes, uint32_t limit) {
  const uint32_t start = in32(kPmTimer);
  const uint32_t word = spec::IRR + vector / 32 * 0x10u;
  while (((in32(kPmTimer) - start) & 0xffffff) < limit) {
    if (read_register(spec::TIMER_CURRENT) != 0) continue;
    if (!comes || (read_register(word) >> vector % 32 & 1) != 0) break;
  }
}

// One-shot, and waited for: until the count is over, and where the entry lets it out until it came.
// KVM's count is over by the clock, its interrupt comes when the host's timer does.
void run_timer(uint32_t lvt) {
  write_register(spec::TIMER_INITIAL, 0);
  write_register(spec::LVT_TIMER, lvt);
  write_register(spec::TIMER_DIVIDE, pick({0u, 1u, 2u, 3u, 8u, 9u, 0xau, 0xbu}));
  const bool comes = (read_register(spec::LVT_TIMER) & spec::LVT_MASKED) == 0;
  write_register(spec::TIMER_INITIAL, 50 + below(50));
  wait_for_timer(static_cast<uint8_t>(lvt), comes, kPmTimerHz * 2);
}

void fire_timer() {
  const uint32_t lvt = pick(kVectors) | (one_in(4) ? spec::LVT_MASKED : 0);
  run_timer(lvt);
  record("fire", 0x380, field(lvt), field(read_register(spec::TIMER_CURRENT)));
  write_register(spec::TIMER_INITIAL, 0);
}

// A timer that is over and gets another divisor: nothing is there to divide.
void divide_again() {
  const uint8_t vector = pick(kVectors);
  run_timer(vector);
  let_in();
  record("fired", 0x380, kNothing, kNothing);
  write_register(spec::TIMER_DIVIDE, read_register(spec::TIMER_DIVIDE) ^ 1);
  wait_for_timer(vector, true, kPmTimerHz / 10);  // ours never comes
  let_in();
  record("divide", 0x3e0, kNothing, field(read_register(spec::TIMER_CURRENT)));
  write_register(spec::TIMER_INITIAL, 0);
}

// Too long to end in any episode.
void start_timer() {
  const uint32_t count = one_in(4) ? 0 : 0xf0000000 | below(0x1000000);
  write_register(spec::TIMER_INITIAL, 0);
  if (one_in(2)) logged_write(spec::TIMER_DIVIDE, pick({8u, 9u, 0xau}));
  logged_write(spec::TIMER_INITIAL, count);
  if (one_in(2)) logged_write(spec::TIMER_DIVIDE, pick({8u, 9u, 0xau}));
  if (one_in(2)) logged_read(spec::TIMER_CURRENT);
}

// What became of a command shows in the bitmaps at once: bit 0 of what is read is IRR's, 1 TMR's.
void send() {
  const uint32_t command = random_command();
  const auto vector = static_cast<uint8_t>(command);
  // Lowest priority is seldom for more than one, of whom only this processor is there.
  const bool one = (command & 0x700) == 0x100 && !one_in(16);
  uint32_t destination = 0;
  bool done = true;
  if (world.x2apic) {
    destination = one ? pick({0u, 1u, 2u, 0x10001u})
                      : pick({0u, 0u, 1u, 5u, 0xffu, 0x10001u, 0xffffffffu, 3u});
    done = try_wrmsr(0x830, uint64_t{destination} << 32 | command);
  } else {
    destination = one ? pick({0u, 1u, 0x10u, 0x21u, 0x80u}) : random_destination();
    lapic_write(spec::ICR_HIGH, destination << 24);
    lapic_write(spec::ICR_LOW, command);
  }
  const uint32_t bit = 1u << vector % 32;
  const bool irr = (read_register(spec::IRR + vector / 32 * 0x10u) & bit) != 0;
  const bool tmr = (read_register(spec::TMR + vector / 32 * 0x10u) & bit) != 0;
  record("send", command, field(destination),
         field(done ? (irr ? 1u : 0u) | (tmr ? 2u : 0u) : 0xdeadu));
}

void logical_id() {
  if (one_in(3))
    logged_write(spec::DFR, pick({0xffffffffu, 0x0fffffffu, 0xf0000000u, 0u}));
  else
    logged_write(spec::LDR, random_destination() << 24);
}

void software_switch() {
  logged_write(spec::SVR, pick({0x1ffu, 0x1ffu, 0x1ffu, 0xffu, 0x3f5u, 0x10fu}));
}

void error_status() {
  if (one_in(2))
    logged_write(spec::ESR, 0);
  else
    logged_read(spec::ESR);
}

void set_base(uint64_t value) {
  const bool done = try_wrmsr(spec::IA32_APIC_BASE, value);
  record("wrmsr", spec::IA32_APIC_BASE, field(value),
         field(done ? rdmsr(spec::IA32_APIC_BASE) : 0xdead));
}

// Hardware-disabled, a look, and on again; a number that stands for all registers says what is
// left.
void off_and_on() {
  const uint64_t base = rdmsr(spec::IA32_APIC_BASE);
  set_base(base & ~spec::BASE_ENABLE);
  record("read", spec::VERSION, kNothing, field(lapic_read(spec::VERSION)));
  record("cpuid", 1, kNothing, field(cpuid(1).edx >> 9 & 1));
  wrmsr(spec::IA32_APIC_BASE, base);
  uint64_t sum = 0;
  for (const uint16_t offset : kReadable) sum = sum * 31 + lapic_read(offset);
  for (const uint16_t bitmap : kBitmaps)
    for (uint32_t i = 0; i < 8; ++i) sum = sum * 31 + lapic_read(bitmap + 0x10 * i);
  record("again", spec::IA32_APIC_BASE, field(base), field(sum));
}

void common_operation() {
  switch (below(16)) {
    case 0:
    case 1:
    case 2:
      return any_read();
    case 3:
    case 4:
      return window();
    case 5:
      return task_priority();
    case 6:
    case 7:
    case 8:
    case 9:
      return send();
    case 10:
      end_of_interrupt();
      return record("eoi", 0, kNothing, kNothing);
    case 11: {
      const uint16_t lvt = pick(kLvts);
      return logged_write(lvt, random_lvt(lvt));
    }
    case 12:
      return start_timer();
    case 13:
      return one_in(24) ? divide_again() : fire_timer();
    case 14:
      return one_in(3) ? software_switch() : error_status();
    default:
      return change_ending();
  }
}

void any_msr() {
  // 80Ch to 80Eh and 82Fh are among them: absent or read-only.
  const uint32_t index = one_in(4) ? kX2apicMsrs + below(0x48) : kX2apicMsrs + pick(kReadable) / 16;
  if (one_in(2)) {
    uint64_t value = 0;
    const bool done = try_rdmsr(index, value);
    if (index == 0x839 && value != 0) value = 1;
    record("rdmsr", index, kNothing, field(done ? value : 0xdead));
    return;
  }
  if (index == 0x830 || index == 0x838) return;  // send() and start_timer()
  if (index == 0x83f && one_in(2)) {
    const uint64_t vector = pick(kVectors);
    wrmsr(index, vector);
    return record("wrmsr", index, field(vector), field(0));
  }
  uint64_t value = pick({uint64_t{0}, uint64_t{0}, uint64_t{0x100000000}});
  if (one_in(16)) value = one_in(2) ? 1 : 0x10000;
  if (index == 0x83f && value < 16) value = kVectors[0];
  if (index == 0x80f && value < 0x100) value |= 0x100;
  const bool done = try_wrmsr(index, value);
  record("wrmsr", index, field(value), field(done ? 0 : 0xdead));
}

}  // namespace

bool has_x2apic() { return (cpuid(1).ecx >> 21 & 1) != 0; }

void end_of_interrupt() {
  if (world.x2apic)
    wrmsr(0x80b, 0);
  else
    eoi();
}

void reset_lapic() {
  const uint64_t base = rdmsr(spec::IA32_APIC_BASE) & ~(spec::BASE_ENABLE | spec::BASE_X2APIC);
  if (world.x2apic) wrmsr(spec::IA32_APIC_BASE, base);
  world.x2apic = false;
  wrmsr(spec::IA32_APIC_BASE, base | spec::BASE_ENABLE);
  lapic_write(spec::SVR, 0x1ff);
  for (const uint16_t lvt : kLvts) lapic_write(lvt, spec::LVT_MASKED);
  lapic_write(spec::TIMER_INITIAL, 0);
  lapic_write(spec::TIMER_DIVIDE, 0);
  lapic_write(spec::TPR, 0);
  lapic_write(spec::DFR, 0xffffffff);
  lapic_write(spec::LDR, 0x01000000);
  lapic_write(spec::APIC_ID, 0);
  // As many EOIs as vectors can be in service; an edge of each clears its TMR bit; then out with
  // all.
  constexpr unsigned kAll = sizeof kVectors + 1;
  for (unsigned i = 0; i < kAll; ++i) eoi();
  for (const uint8_t vector : kVectors)
    lapic_write(spec::ICR_LOW, spec::ICR_SELF | spec::ICR_ASSERT | vector);
  lapic_write(spec::ICR_LOW, spec::ICR_SELF | spec::ICR_ASSERT | kErrorVector);
  for (unsigned i = 0; i < 3; ++i) let_in();
  lapic_write(spec::ICR_HIGH, 0);
  lapic_write(spec::ICR_LOW, spec::ICR_ALL_BUT_SELF | 0x31);
  lapic_write(spec::ESR, 0);
  lapic_write(spec::ESR, 0);
}

void begin_x2apic() {
  wrmsr(spec::IA32_APIC_BASE, rdmsr(spec::IA32_APIC_BASE) | spec::BASE_X2APIC);
  world.x2apic = true;
}

void lapic_operation() {
  if (one_in(200)) return off_and_on();
  if (one_in(12)) return logical_id();
  if (one_in(64)) return logged_write(spec::APIC_ID, below(4) << 24);
  if (one_in(64))
    return logged_write(pick({0x40u, 0x90u, 0xa0u, 0x100u, 0x200u, 0x390u, 0x3f0u}), 1);
  common_operation();
}

void x2apic_operation() {
  if (one_in(3)) return any_msr();
  if (one_in(48)) {
    set_base(rdmsr(spec::IA32_APIC_BASE) & ~spec::BASE_X2APIC);  // #GP: only by way of disabled
    return;
  }
  common_operation();
}

}  // namespace guest::chips
