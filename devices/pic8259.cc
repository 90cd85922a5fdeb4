#include "devices/pic8259.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t MASTER_ELCR = 4;
constexpr std::uint64_t SLAVE_ELCR = 5;
// Inputs that are always edge-triggered: timer, keyboard and cascade; clock and FPU.
constexpr std::uint8_t MASTER_ELCR_WRITABLE = 0xf8;
constexpr std::uint8_t SLAVE_ELCR_WRITABLE = 0xde;

constexpr unsigned CASCADE = 2;
constexpr std::uint8_t DEFAULT_IR = 7;

constexpr std::uint8_t ICW1 = 0x10;  // tells ICW1 from OCW2 and OCW3
constexpr std::uint8_t ICW1_IC4 = 0x01;
constexpr std::uint8_t ICW1_SNGL = 0x02;
constexpr std::uint8_t ICW1_LTIM = 0x08;
constexpr std::uint8_t ICW2_BASE = 0xf8;
constexpr std::uint8_t ICW4_AEOI = 0x02;
constexpr std::uint8_t ICW4_SFNM = 0x10;

constexpr std::uint8_t OCW2_ROTATE = 0x80;
constexpr std::uint8_t OCW2_SPECIFIC = 0x40;
constexpr std::uint8_t OCW2_EOI = 0x20;
constexpr std::uint8_t OCW2_LEVEL = 0x07;

constexpr std::uint8_t OCW3 = 0x08;  // tells OCW3 from OCW2
constexpr std::uint8_t OCW3_ESMM = 0x40;
constexpr std::uint8_t OCW3_SMM = 0x20;
constexpr std::uint8_t OCW3_POLL = 0x04;
constexpr std::uint8_t OCW3_RR = 0x02;
constexpr std::uint8_t OCW3_RIS = 0x01;

constexpr std::uint8_t POLL_REQUEST = 0x80;

}  // namespace
}  // namespace spec

namespace {

using Chip = Pic8259::Chip;

constexpr std::uint8_t mask_of(unsigned input) { return static_cast<std::uint8_t>(1u << input); }

// A level-triggered input asks while it is high, the others since their edge and while it is high.
std::uint8_t irr(const Chip& chip) {
  const std::uint8_t level = chip.ltim ? 0xff : chip.elcr;
  return static_cast<std::uint8_t>(chip.lines & (level | chip.edges));
}

// 0 for the highest priority.
unsigned rank(const Chip& chip, unsigned input) { return (input - chip.lowest - 1u) & 7u; }

// The input of highest priority in `inputs`.
std::optional<unsigned> first(const Chip& chip, std::uint8_t inputs) {
  for (unsigned i = 1; i <= 8; ++i) {
    const unsigned input = (chip.lowest + i) & 7u;
    if ((inputs & mask_of(input)) != 0) return input;
  }
  return std::nullopt;
}

// What blocks requests and what a non-specific EOI ends: in special mask mode not what is masked.
std::uint8_t effective_isr(const Chip& chip) {
  return chip.special_mask ? static_cast<std::uint8_t>(chip.isr & ~chip.imr) : chip.isr;
}

void set_line(Chip& chip, unsigned input, bool level) {
  const std::uint8_t mask = mask_of(input);
  if (level) {
    if ((chip.lines & mask) == 0) chip.edges |= mask;
    chip.lines |= mask;
  } else {
    chip.lines &= static_cast<std::uint8_t>(~mask);
    chip.edges &= static_cast<std::uint8_t>(~mask);
  }
}

void end(Chip& chip, unsigned input, bool rotate) {
  chip.isr &= static_cast<std::uint8_t>(~mask_of(input));
  if (rotate) chip.lowest = static_cast<std::uint8_t>(input);
}

void take(Chip& chip, unsigned input) {
  chip.edges &= static_cast<std::uint8_t>(~mask_of(input));
  chip.isr |= mask_of(input);
  if (chip.aeoi) end(chip, input, chip.rotate_aeoi);
}

void run_ocw2(Chip& chip, std::uint8_t value) {
  const bool rotate = (value & spec::OCW2_ROTATE) != 0;
  const bool specific = (value & spec::OCW2_SPECIFIC) != 0;
  const unsigned level = value & spec::OCW2_LEVEL;
  if ((value & spec::OCW2_EOI) != 0) {
    const std::optional<unsigned> input = specific ? level : first(chip, effective_isr(chip));
    if (input) end(chip, *input, rotate);
  } else if (!specific) {
    chip.rotate_aeoi = rotate;
  } else if (rotate) {
    chip.lowest = static_cast<std::uint8_t>(level);
  }
}

void run_ocw3(Chip& chip, std::uint8_t value) {
  if ((value & spec::OCW3_ESMM) != 0) chip.special_mask = (value & spec::OCW3_SMM) != 0;
  if ((value & spec::OCW3_POLL) != 0)
    chip.poll = true;
  else if ((value & spec::OCW3_RR) != 0)
    chip.read_isr = (value & spec::OCW3_RIS) != 0;
}

// What ICW1 leaves: the inputs, ELCR and the base stay.
void run_icw1(Chip& chip, std::uint8_t value) {
  Chip fresh;
  fresh.lines = chip.lines;
  fresh.elcr = chip.elcr;
  fresh.base = chip.base;
  fresh.expects = Pic8259::Expects::Icw2;
  fresh.wants_icw4 = (value & spec::ICW1_IC4) != 0;
  fresh.single = (value & spec::ICW1_SNGL) != 0;
  fresh.ltim = (value & spec::ICW1_LTIM) != 0;
  chip = fresh;
}

void visit_chip(Archive& archive, Chip& chip, const std::string& name, std::uint8_t elcr_writable) {
  archive(name + ".lines", chip.lines)(name + ".edges", chip.edges);
  archive(name + ".isr", chip.isr)(name + ".imr", chip.imr)(name + ".elcr", chip.elcr);
  archive(name + ".base", chip.base)(name + ".lowest", chip.lowest);
  archive(name + ".expects", chip.expects)(name + ".wants_icw4", chip.wants_icw4);
  archive(name + ".single", chip.single)(name + ".ltim", chip.ltim);
  archive(name + ".aeoi", chip.aeoi)(name + ".sfnm", chip.sfnm);
  archive(name + ".rotate_aeoi", chip.rotate_aeoi);
  archive(name + ".special_mask", chip.special_mask);
  archive(name + ".poll", chip.poll)(name + ".read_isr", chip.read_isr);
  chip.edges &= chip.lines;
  chip.elcr &= elcr_writable;
  chip.base &= spec::ICW2_BASE;
  chip.lowest &= 7;
  if (chip.expects > Pic8259::Expects::Icw4) chip.expects = Pic8259::Expects::Ocw1;
}

}  // namespace

Pic8259::Pic8259(std::string name, std::function<void(bool level)> intr)
    : name_(std::move(name)), intr_(std::move(intr)) {}

void Pic8259::reset() {
  state_ = {};
  set_output(false);
}

void Pic8259::set_bios_defaults() {
  state_.master.base = 0x08;
  state_.master.imr = 0xb8;
  state_.slave.base = 0x70;
  state_.slave.imr = 0x8e;
  update();
}

void Pic8259::set_elcr(std::uint16_t levels) {
  state_.master.elcr = static_cast<std::uint8_t>(levels & spec::MASTER_ELCR_WRITABLE);
  state_.slave.elcr = static_cast<std::uint8_t>(levels >> 8 & spec::SLAVE_ELCR_WRITABLE);
  update();
}

// The input that the chip would put into service now.
std::optional<unsigned> Pic8259::request(const Chip& chip) const {
  if (chip.expects != Expects::Ocw1) return std::nullopt;
  const auto input = first(chip, static_cast<std::uint8_t>(irr(chip) & ~chip.imr));
  if (!input) return std::nullopt;
  const auto in_service = first(chip, effective_isr(chip));
  if (!in_service || rank(chip, *input) < rank(chip, *in_service)) return input;
  // Special fully nested mode: a slave in service does not lock the slave out.
  if (chip.sfnm && is_master(chip) && *input == spec::CASCADE && *in_service == spec::CASCADE)
    return input;
  return std::nullopt;
}

std::optional<std::uint8_t> Pic8259::pending() const {
  const auto input = request(state_.master);
  if (!input) return std::nullopt;
  if (*input != spec::CASCADE) return static_cast<std::uint8_t>(state_.master.base + *input);
  const unsigned slave_input = request(state_.slave).value_or(spec::DEFAULT_IR);
  return static_cast<std::uint8_t>(state_.slave.base + slave_input);
}

std::uint8_t Pic8259::acknowledge() {
  const std::uint8_t vector =
      pending().value_or(static_cast<std::uint8_t>(state_.master.base + spec::DEFAULT_IR));
  if (const auto input = request(state_.master)) {
    take(state_.master, *input);
    if (*input == spec::CASCADE) {
      drop_cascade();
      if (const auto slave_input = request(state_.slave)) take(state_.slave, *slave_input);
    }
  }
  // INT falls with INTA, so that what waits behind comes as an edge.
  set_output(false);
  update();
  return vector;
}

void Pic8259::drop_cascade() { set_line(state_.master, spec::CASCADE, false); }

// Carries the slave's request to the master, and the master's to the outside.
void Pic8259::update() {
  if (request(state_.slave)) {
    drop_cascade();
    set_line(state_.master, spec::CASCADE, true);
  }
  set_output(request(state_.master).has_value());
}

void Pic8259::set_output(bool level) {
  if (std::exchange(output_, level) != level && intr_) intr_(level);
}

void Pic8259::set_irq(unsigned irq, bool level) {
  VMM_CHECK(irq < 16, "no such ISA interrupt");
  if (irq == spec::CASCADE) return;
  set_line(irq < 8 ? state_.master : state_.slave, irq & 7u, level);
  update();
}

Access Pic8259::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset > spec::SLAVE_ELCR) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  if (offset == spec::MASTER_ELCR)
    data[0] = state_.master.elcr;
  else if (offset == spec::SLAVE_ELCR)
    data[0] = state_.slave.elcr;
  else
    data[0] = read_port(offset < 2 ? state_.master : state_.slave, (offset & 1) != 0);
  return Access::Ok;
}

Access Pic8259::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset > spec::SLAVE_ELCR) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  if (offset == spec::MASTER_ELCR)
    state_.master.elcr = data[0] & spec::MASTER_ELCR_WRITABLE;
  else if (offset == spec::SLAVE_ELCR)
    state_.slave.elcr = data[0] & spec::SLAVE_ELCR_WRITABLE;
  else if ((offset & 1) == 0)
    write_even(offset < 2 ? state_.master : state_.slave, data[0]);
  else
    write_odd(offset < 2 ? state_.master : state_.slave, data[0]);
  update();
  return Access::Ok;
}

// A poll is an acknowledge by reading, at either port, of this chip alone.
std::uint8_t Pic8259::read_port(Chip& chip, bool odd) {
  if (!std::exchange(chip.poll, false)) {
    if (odd) return chip.imr;
    return chip.read_isr ? chip.isr : irr(chip);
  }
  const auto input = request(chip);
  if (!input) return 0;
  take(chip, *input);
  if (!is_master(chip) || *input == spec::CASCADE) drop_cascade();
  if (is_master(chip)) set_output(false);
  update();
  return static_cast<std::uint8_t>(spec::POLL_REQUEST | *input);
}

void Pic8259::write_even(Chip& chip, std::uint8_t value) {
  if ((value & spec::ICW1) != 0) {
    run_icw1(chip, value);
    drop_cascade();
  } else if ((value & spec::OCW3) != 0) {
    run_ocw3(chip, value);
  } else {
    run_ocw2(chip, value);
  }
}

void Pic8259::write_odd(Chip& chip, std::uint8_t value) {
  switch (chip.expects) {
    case Expects::Ocw1:
      chip.imr = value;
      return;
    case Expects::Icw2:
      chip.base = value & spec::ICW2_BASE;
      if (!chip.single)
        chip.expects = Expects::Icw3;
      else
        chip.expects = chip.wants_icw4 ? Expects::Icw4 : Expects::Ocw1;
      return;
    case Expects::Icw3:
      chip.expects = chip.wants_icw4 ? Expects::Icw4 : Expects::Ocw1;
      return;
    case Expects::Icw4:
      chip.aeoi = (value & spec::ICW4_AEOI) != 0;
      chip.sfnm = (value & spec::ICW4_SFNM) != 0;
      chip.expects = Expects::Ocw1;
      return;
  }
}

void Pic8259::visit(Archive& archive) {
  archive.block("pic8259", 1);
  visit_chip(archive, state_.master, "master", spec::MASTER_ELCR_WRITABLE);
  visit_chip(archive, state_.slave, "slave", spec::SLAVE_ELCR_WRITABLE);
  output_ = request(state_.master).has_value();
}

}  // namespace vmm
