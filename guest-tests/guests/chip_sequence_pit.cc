// The 8254's operations. Counts are either so long that they do not end here, or waited for.
#include "guest-tests/guests/chip_sequence.h"

namespace guest::chips {
namespace {

constexpr uint16_t kControl = 0x43, kPort61 = 0x61;

// As each counter was last programmed: what may be said of it without looking at the clock.
struct Counter {
  uint8_t mode = 0, access = 3;
  uint32_t count = 0;
};
Counter counters[3];

uint8_t status_of(unsigned counter) {
  out8(kControl, static_cast<uint8_t>(0xe0 | 2u << counter));
  return in8(static_cast<uint16_t>(0x40 + counter));
}

void write_count(unsigned counter, uint32_t count) {
  const auto port = static_cast<uint16_t>(0x40 + counter);
  Counter& c = counters[counter];
  if (c.access != 2) out8(port, static_cast<uint8_t>(count));
  if (c.access != 1) out8(port, static_cast<uint8_t>(count >> 8));
  c.count = count;
}

// A control word with a count. The longest is 55 ms, too short for an episode on some hosts: what
// is looked at is a count that went by, or what no time changes.
void program(unsigned counter) {
  Counter& c = counters[counter];
  c.mode = static_cast<uint8_t>(below(6));
  c.access = static_cast<uint8_t>(1 + below(3));
  const bool bcd = one_in(6);
  // Modes 6 and 7 are 2 and 3.
  const unsigned written_mode = (c.mode == 2 || c.mode == 3) && one_in(4) ? c.mode + 4u : c.mode;
  const auto control = static_cast<uint8_t>(counter << 6 | unsigned{c.access} << 4 |
                                            written_mode << 1 | (bcd ? 1u : 0u));
  out8(kControl, control);
  record("pit", counter, field(control), kNothing);
  uint32_t count = 0x10 + below(0x10) + (one_in(2) ? 0x100 * (1 + below(2)) : 0);
  if (c.access == 1) count &= 0xff;
  if (c.access == 2) count = count & 0xff00 ? count & 0xff00 : 0x100;
  if (bcd) count &= 0x9999;
  if (bcd && count == 0) count = 0x100;
  write_count(counter, count);
  record("count", counter, field(count), kNothing);
}

// Long enough for every count above, by the ACPI timer, which is the board's with every chip.
void wait() {
  constexpr uint32_t kTicks = kPmTimerHz / 1400;
  const uint32_t start = in32(kPmTimer);
  while (((in32(kPmTimer) - start) & 0xffffff) < kTicks) {
  }
}

// The output of a counter that runs for ever depends on when one looks.
bool is_steady(unsigned counter) {
  return counters[counter].mode != 2 && counters[counter].mode != 3;
}

// Each in a line of its own: the bits that were written, and the output of counter 2.
void look_at_port61() {
  wait();
  const uint32_t value = in8(kPort61);
  record("in", kPort61, kNothing, field(value & 0x0f));
  record("output", 2, kNothing, field(is_steady(2) ? value >> 5 & 1 : 0));
}

// The same of a status byte: control word, null count, output.
void record_status(unsigned counter, uint32_t status) {
  record("status", counter, kNothing, field(status & 0x3f));
  record("null", counter, kNothing, field(status >> 6 & 1));
  record("output", counter, kNothing, field(is_steady(counter) ? status >> 7 : 0));
}

void read_status(unsigned counter) {
  wait();
  record_status(counter, status_of(counter));
}

// Status and count latched together; of the count only whether it stays within what was written.
void read_back(unsigned counter) {
  wait();
  const Counter& c = counters[counter];
  const auto port = static_cast<uint16_t>(0x40 + counter);
  out8(kControl, static_cast<uint8_t>(0xc0 | 2u << counter));
  const uint32_t status = in8(port);
  uint32_t count = in8(port);
  if (c.access == 2) count <<= 8;
  if (c.access == 3) count |= static_cast<uint32_t>(in8(port)) << 8;
  // A count beyond 0 goes round: its value says nothing.
  const bool within = is_steady(counter) || count <= c.count;
  record("back", counter, kNothing, field(within));
  record_status(counter, status);
}

// A latched count does not move.
void latch(unsigned counter) {
  const Counter& c = counters[counter];
  const auto port = static_cast<uint16_t>(0x40 + counter);
  uint32_t seen[2];
  for (uint32_t& value : seen) {
    out8(kControl, static_cast<uint8_t>(counter << 6));
    if (&value == seen) wait();
    value = in8(port);
    if (c.access == 3) value |= static_cast<uint32_t>(in8(port)) << 8;
  }
  const uint32_t limit = c.access == 2 ? c.count >> 8 : c.count;
  const bool within = is_steady(counter) || (seen[0] <= limit && seen[1] <= limit);
  record("latch", counter, kNothing, field(within));
}

}  // namespace

// KVM's timer forgets the ticks that it owes at a count in mode 0 and stops at one in mode 5,
// neither at a control word. In mode 0 without a count OUT is low.
void stop_pit() {
  constexpr uint8_t kControls[] = {0x30, 0x3a};
  for (const uint8_t control : kControls) {
    out8(kControl, control);
    out8(0x40, 1);
    out8(0x40, 0);
    wait();
  }
  out8(kControl, 0x30);
}

void begin_pit() {
  out8(kPort61, 0x01);
  for (unsigned counter = 0; counter < 3; ++counter) {
    counters[counter] = Counter{};
    out8(kControl, static_cast<uint8_t>(counter << 6 | 0x30));
    write_count(counter, 0x100);
  }
  wait();
}

void pit_operation() {
  const unsigned counter = below(3);
  switch (below(8)) {
    case 0:
    case 1:
      return program(counter);
    case 2:
      return read_status(counter);
    case 3:
      return read_back(counter);
    case 4:
      return latch(counter);
    case 5:
    case 6: {
      // The speaker's bits and the gate of counter 2.
      const uint32_t value = below(16);
      out8(kPort61, static_cast<uint8_t>(value));
      record("out", kPort61, field(value), kNothing);
      return look_at_port61();
    }
    default:
      return look_at_port61();
  }
}

}  // namespace guest::chips
