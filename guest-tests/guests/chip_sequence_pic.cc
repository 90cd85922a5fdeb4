// The 8259A pair's operations. In most episodes a line stays high until it is served and triggering
// is chosen before, as devices and drivers do; in the loose ones anything goes.
#include "guest-tests/guests/chip_sequence.h"

namespace guest::chips {
namespace {

constexpr uint16_t kMaster = 0x20, kSlave = 0xa0, kMasterElcr = 0x4d0;

uint8_t bases[2];   // ICW2 of master and slave
bool automatic[2];  // AEOI
bool loose;

void logged_out(uint16_t port, uint32_t value) {
  out8(port, static_cast<uint8_t>(value));
  record("out", port, field(value), kNothing);
}
void logged_in(uint16_t port) {
  const uint8_t value = in8(port);
  record("in", port, kNothing, field(value));
}

// ICW1 to ICW4.
void start(unsigned chip, uint8_t icw1, uint8_t base, uint8_t icw4) {
  const uint16_t port = chip == 0 ? kMaster : kSlave;
  out8(port, icw1);
  out8(port + 1, base);
  if ((icw1 & 2) == 0) out8(port + 1, chip == 0 ? 4 : 2);
  if ((icw1 & 1) != 0) out8(port + 1, icw4);
  bases[chip] = base & 0xf8;
  automatic[chip] = (icw1 & 1) != 0 && (icw4 & 2) != 0;
}

void restart(unsigned chip) {
  const uint8_t base = static_cast<uint8_t>((chip == 0 ? 0x20 : 0x28) + 0x10 * below(4));
  const uint8_t icw4 = static_cast<uint8_t>(1 | (one_in(3) ? 2 : 0) | (one_in(3) ? 0x10 : 0));
  uint8_t icw1 = one_in(6) ? 0x10 : 0x11;
  if (loose && one_in(6)) icw1 |= 8;
  if (loose && one_in(6)) icw1 |= 2;
  start(chip, icw1, base, icw4);
  record("icw", chip, field(uint64_t{icw1} << 16 | uint64_t{base} << 8 | icw4), kNothing);
}

void command(uint16_t port) {
  const uint32_t kind = below(12);
  if (kind < 4) return logged_out(port, 0x20);                      // non-specific EOI
  if (kind < 6) return logged_out(port, 0x60 | below(8));           // specific EOI
  if (kind == 6) return logged_out(port, 0xa0);                     // rotate on it
  if (kind == 7) return logged_out(port, 0xe0 | below(8));          // rotate on a specific one
  if (kind == 8) return logged_out(port, 0xc0 | below(8));          // set priority
  if (kind == 9) return logged_out(port, one_in(2) ? 0x80 : 0x00);  // rotate in automatic mode
  if (kind == 10) return logged_out(port, 0x40);                    // nothing
  logged_out(port, loose ? 0x68 : 0x48);                            // special mask mode
}

void look(uint16_t port) {
  const uint32_t kind = below(loose ? 8 : 7);
  if (kind == 7) {
    out8(port, 0x0c);  // poll
    record("poll", port, kNothing, field(in8(port)));
    return;
  }
  if (kind == 6) return logged_in(port + 1);
  if (one_in(2)) out8(port, one_in(2) ? 0x0b : 0x0a);
  logged_in(port);
}

void move_line() {
  const unsigned line = kFreeLines[below(kIsaFreeLines)];
  const bool up = (world.raised >> line & 1) == 0;
  if (!up && !loose) return look(line < 8 ? kMaster : kSlave);
  set_line(line, up);
  record("line", line, field(up ? 1 : 0), kNothing);
}

}  // namespace

unsigned pic_line(uint8_t vector) {
  if (vector >= bases[0] && vector < bases[0] + 8) return vector - bases[0] + 0u;
  if (vector >= bases[1] && vector < bases[1] + 8) return vector - bases[1] + 8u;
  return 16;
}

void end_pic_interrupt(uint8_t vector) {
  const unsigned line = pic_line(vector);
  if (line >= 8 && !automatic[1]) out8(kSlave, 0x20);
  if (!automatic[0]) out8(kMaster, 0x20);
}

void reset_pics() {
  for (unsigned chip = 2; chip-- > 0;) {
    const uint16_t port = chip == 0 ? kMaster : kSlave;
    out8(static_cast<uint16_t>(kMasterElcr + chip), 0);
    start(chip, 0x11, static_cast<uint8_t>(0x20 + 8 * chip), 0x01);
    out8(port, 0x00);  // no rotation
    out8(port, 0xc7);  // IR7 is lowest
    out8(port, 0x48);  // no special mask
    // ICW1 alone need not end what is requested or in service: polls and EOIs do.
    for (unsigned i = 0; i < 8; ++i) {
      for (unsigned line = 0; line < 8; ++line) out8(port, static_cast<uint8_t>(0x60 | line));
      out8(port, 0x0c);
      if ((in8(port) & 0x80) == 0) break;
    }
    out8(port, 0x0a);  // the even port reads IRR
    out8(static_cast<uint16_t>(port + 1), 0xff);
  }
}

void begin_pic() {
  loose = one_in(4);
  out8(kMasterElcr, static_cast<uint8_t>(one_in(2) ? below(256) : 0));
  out8(kMasterElcr + 1, static_cast<uint8_t>(one_in(2) ? below(256) : 0));
  lapic_write(spec::LVT_LINT0, spec::LVT_EXTINT);
  out8(0x21, 0);
  out8(0xa1, 0);
}

bool is_loose() { return loose; }

void pic_operation() {
  const uint16_t port = one_in(2) ? kMaster : kSlave;
  switch (below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return move_line();
    case 4:
    case 5:
      return command(port);
    case 6:
    case 7:
    case 8:
      return look(port);
    case 9:
      if (loose && one_in(3)) {
        // Masks what is in service: in special mask mode that lets the others in.
        out8(port, 0x68);
        out8(port, 0x0b);
        record("out", port, field(0x68), kNothing);
        return logged_out(port + 1, in8(port));
      }
      return logged_out(port + 1, one_in(2) ? 0 : below(256));
    case 10:
      if (loose) return logged_out(kMasterElcr + static_cast<uint16_t>(below(2)), below(256));
      return logged_in(kMasterElcr + static_cast<uint16_t>(below(2)));
    case 11:
    case 12:
    case 13:
      let_in();
      return record("window", 0, kNothing, kNothing);
    case 14:
      if (one_in(4)) return restart(below(2));
      world.open = !world.open;
      return record(world.open ? "open" : "shut", 0, kNothing, kNothing);
    default:
      world.ending = static_cast<Ending>(below(static_cast<uint32_t>(Ending::kEndings)));
      return record("ending", static_cast<uint32_t>(world.ending), kNothing, kNothing);
  }
}

}  // namespace guest::chips
