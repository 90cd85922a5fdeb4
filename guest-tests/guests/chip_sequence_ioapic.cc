// The IOAPIC's operations: redirection entries, lines of the test device, EOIs.
#include "guest-tests/guests/chip_sequence.h"

namespace guest::chips {
namespace {

constexpr uintptr_t kIndex = 0xfec00000, kWindow = 0xfec00010;
constexpr uint32_t kMasked = 0x10000, kLevel = 0x8000, kActiveLow = 0x2000, kLogical = 0x800;

uint32_t ioapic_read(uint32_t index) {
  mmio_write<uint32_t>(kIndex, index);
  return mmio_read<uint32_t>(kWindow);
}
void ioapic_write(uint32_t index, uint32_t value) {
  mmio_write<uint32_t>(kIndex, index);
  mmio_write<uint32_t>(kWindow, value);
}
uint32_t entry_of(unsigned line) { return 0x10 + 2 * line; }

void logged_read(uint32_t index) {
  const uint32_t value = ioapic_read(index);
  record("iread", index, kNothing, field(value));
}
void logged_write(uint32_t index, uint32_t value) {
  ioapic_write(index, value);
  record("iwrite", index, field(value), field(ioapic_read(index)));
}
// Whether the line's vector is requested.
uint32_t requested(unsigned line) { return vector_in(spec::IRR, world.line_vector[line]) ? 1 : 0; }

// Each line has a vector of its own within an episode's few, most of the time.
void write_entry(unsigned line) {
  if (one_in(4)) {
    const uint32_t destination = pick({0u, 0u, 0u, 1u, 5u, 0xffu});
    return logged_write(entry_of(line) + 1, destination << 24 | (one_in(16) ? 0x00ffffffu : 0));
  }
  uint32_t low = pick(kVectors);
  if (one_in(3)) low |= kMasked;
  if (one_in(2)) low |= kLevel;
  if (one_in(6)) low |= kLogical;
  if (one_in(6)) low |= 0x100;  // lowest priority
  if (one_in(48)) low |= kActiveLow;
  if (one_in(32)) low |= 0xfffe0000;              // reserved
  if (one_in(48)) low = (low & ~0x7ffu) | 0x400;  // NMI
  world.line_vector[line] = static_cast<uint8_t>(low);
  ioapic_write(entry_of(line), low);
  const uint32_t now = ioapic_read(entry_of(line));
  record("entry", line, field(low), field(uint64_t{requested(line)} << 32 | now));
}

void move_line(unsigned line) {
  const bool up = (world.raised >> line & 1) == 0;
  set_line(line, up);
  record("line", line, field(up ? 1 : 0), field(requested(line)));
}

}  // namespace

void reset_ioapic() {
  for (const uint8_t pin : kFreeLines) {
    // As an edge, an entry forgets its remote IRR.
    ioapic_write(entry_of(pin), kMasked);
    ioapic_write(entry_of(pin) + 1, 0);
    world.line_vector[pin] = 0;
  }
  ioapic_write(0, 0);
  mmio_write<uint32_t>(kIndex, 0);
}

void ioapic_operation() {
  // Few lines, so that operations meet.
  const unsigned line = kFreeLines[below(5) * 2 + 1];
  switch (below(16)) {
    case 0:
    case 1:
    case 2:
      return write_entry(line);
    case 3:
    case 4:
    case 5:
    case 6:
      return move_line(line);
    case 7:
      return logged_read(entry_of(line) + below(2));
    case 8:
      return logged_read(pick({0u, 1u, 2u, 3u, 0xfu, 0x40u, 0x41u, 0xffu}));
    case 9:
      if (one_in(2)) return logged_write(0, world.random.next32());
      return record("iindex", 0, kNothing, field(mmio_read<uint32_t>(kIndex)));
    case 10:
    case 11:
    case 12:
      let_in();
      return record("window", 0, kNothing, kNothing);
    case 13: {
      end_of_interrupt();
      return record("eoi", 0, kNothing, kNothing);
    }
    case 14: {
      const uint32_t offset = pick({0x100u, 0x180u, 0x200u}) + 0x10 * below(8);
      return record("read", offset, kNothing, field(lapic_read(offset)));
    }
    default:
      if (one_in(3)) {
        world.open = !world.open;
        return record(world.open ? "open" : "shut", 0, kNothing, kNothing);
      }
      world.ending = static_cast<Ending>(below(static_cast<uint32_t>(Ending::kEndings)));
      world.lower_first = !world.lower_first;
      return record("ending", static_cast<uint32_t>(world.ending), kNothing, kNothing);
  }
}

}  // namespace guest::chips
