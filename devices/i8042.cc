#include "devices/i8042.h"

#include <utility>

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t DATA = 0;            // port 60h
constexpr std::uint64_t STATUS_COMMAND = 4;  // port 64h

constexpr std::uint8_t STATUS_OBF = 0x01;
constexpr std::uint8_t STATUS_COMMAND_LAST = 0x08;
constexpr std::uint8_t STATUS_UNLOCKED = 0x10;
constexpr std::uint8_t STATUS_TIMEOUT = 0x40;

constexpr std::uint8_t CONFIG_KBD_INT = 0x01;
constexpr std::uint8_t CONFIG_SYS = 0x04;  // also status bit 2
constexpr std::uint8_t CONFIG_KBD_DISABLE = 0x10;
constexpr std::uint8_t CONFIG_AUX_DISABLE = 0x20;
constexpr std::uint8_t CONFIG_TRANSLATE = 0x40;

constexpr std::uint8_t READ_RAM = 0x20;   // to 3fh
constexpr std::uint8_t WRITE_RAM = 0x60;  // to 7fh
constexpr std::uint8_t AUX_DISABLE = 0xa7;
constexpr std::uint8_t AUX_ENABLE = 0xa8;
constexpr std::uint8_t AUX_TEST = 0xa9;
constexpr std::uint8_t SELF_TEST = 0xaa;
constexpr std::uint8_t KBD_TEST = 0xab;
constexpr std::uint8_t KBD_DISABLE = 0xad;
constexpr std::uint8_t KBD_ENABLE = 0xae;
constexpr std::uint8_t READ_INPUT_PORT = 0xc0;
constexpr std::uint8_t READ_OUTPUT_PORT = 0xd0;
constexpr std::uint8_t WRITE_OUTPUT_PORT = 0xd1;
constexpr std::uint8_t WRITE_KBD_BUFFER = 0xd2;
constexpr std::uint8_t WRITE_AUX_BUFFER = 0xd3;
constexpr std::uint8_t WRITE_AUX = 0xd4;
constexpr std::uint8_t DISABLE_A20 = 0xdd;
constexpr std::uint8_t ENABLE_A20 = 0xdf;
constexpr std::uint8_t PULSE_OUTPUT_PORT = 0xf0;  // to ffh; a 0 in bits 3:0 pulses that line low

constexpr std::uint8_t SELF_TEST_PASSED = 0x55;
constexpr std::uint8_t KBD_TEST_PASSED = 0x00;
constexpr std::uint8_t AUX_TEST_CLOCK_STUCK = 0x01;
constexpr std::uint8_t INPUT_PORT_UNLOCKED = 0x80;

constexpr std::uint8_t OUTPUT_PORT_NO_RESET = 0x01;
constexpr std::uint8_t OUTPUT_PORT_A20 = 0x02;
constexpr std::uint8_t OUTPUT_PORT_OBF = 0x10;

constexpr std::uint8_t KBD_RESEND = 0xfe;

}  // namespace
}  // namespace spec

I8042::I8042(std::string name, IrqLine irq1, std::function<void()> on_reset)
    : name_(std::move(name)), irq1_(std::move(irq1)), on_reset_(std::move(on_reset)) {}

void I8042::reset() {
  state_ = {};
  keyboard_.reset();
  update_irq();
}

void I8042::type(std::span<const std::uint8_t> codes) {
  keyboard_.type(codes);
  fill();
  update_irq();
}

// Takes the next byte from the keyboard while there is room for it.
void I8042::fill() {
  const std::uint8_t config = state_.ram[0];
  if (!state_.output)
    state_.output = keyboard_.next((config & spec::CONFIG_TRANSLATE) != 0,
                                   (config & spec::CONFIG_KBD_DISABLE) != 0);
}

bool I8042::irq_level() const {
  return state_.output && (state_.ram[0] & spec::CONFIG_KBD_INT) != 0;
}

void I8042::update_irq() { irq1_.set(irq_level()); }

std::uint8_t I8042::status() const {
  std::uint8_t value = spec::STATUS_UNLOCKED | (state_.ram[0] & spec::CONFIG_SYS);
  if (state_.output) value |= spec::STATUS_OBF;
  if (state_.last_was_command) value |= spec::STATUS_COMMAND_LAST;
  if (state_.timed_out) value |= spec::STATUS_TIMEOUT;
  return value;
}

Access I8042::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset != spec::DATA && offset != spec::STATUS_COMMAND) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  data[0] = offset == spec::DATA ? read_output() : status();
  return Access::Ok;
}

Access I8042::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset != spec::DATA && offset != spec::STATUS_COMMAND) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  state_.last_was_command = offset == spec::STATUS_COMMAND;
  if (state_.last_was_command)
    run_command(data[0]);
  else
    run_data(data[0]);
  fill();
  update_irq();
  return Access::Ok;
}

// An empty output buffer gives its last byte again, as the latch in the chip does.
std::uint8_t I8042::read_output() {
  state_.timed_out = false;
  if (state_.output) state_.last_output = *state_.output;
  state_.output.reset();
  // The line goes low between two bytes, so that each is an edge.
  update_irq();
  fill();
  update_irq();
  return state_.last_output;
}

// Fills the output buffer; what was not read is lost.
void I8042::answer(std::uint8_t value) {
  state_.output = value;
  state_.timed_out = false;
}

void I8042::write_output_port(std::uint8_t value) {
  state_.output_port = value;
  if ((value & spec::OUTPUT_PORT_NO_RESET) == 0 && on_reset_) on_reset_();
}

void I8042::run_command(std::uint8_t command) {
  std::uint8_t& config = state_.ram[0];
  state_.command = 0;
  if (command >= spec::READ_RAM && command < spec::READ_RAM + state_.ram.size()) {
    answer(state_.ram[command - spec::READ_RAM]);
    return;
  }
  if (command >= spec::WRITE_RAM && command < spec::WRITE_RAM + state_.ram.size()) {
    state_.command = command;
    return;
  }
  if (command >= spec::PULSE_OUTPUT_PORT) {
    if ((command & spec::OUTPUT_PORT_NO_RESET) == 0 && on_reset_) on_reset_();
    return;
  }
  switch (command) {
    case spec::AUX_DISABLE:
      config |= spec::CONFIG_AUX_DISABLE;
      break;
    case spec::AUX_ENABLE:
      config &= static_cast<std::uint8_t>(~spec::CONFIG_AUX_DISABLE);
      break;
    case spec::KBD_DISABLE:
      config |= spec::CONFIG_KBD_DISABLE;
      break;
    case spec::KBD_ENABLE:
      config &= static_cast<std::uint8_t>(~spec::CONFIG_KBD_DISABLE);
      break;
    case spec::AUX_TEST:
      answer(spec::AUX_TEST_CLOCK_STUCK);
      break;
    case spec::SELF_TEST:
      config |= spec::CONFIG_SYS;
      answer(spec::SELF_TEST_PASSED);
      break;
    case spec::KBD_TEST:
      answer(spec::KBD_TEST_PASSED);
      break;
    case spec::READ_INPUT_PORT:
      answer(spec::INPUT_PORT_UNLOCKED);
      break;
    case spec::READ_OUTPUT_PORT:
      answer(static_cast<std::uint8_t>((state_.output_port & ~spec::OUTPUT_PORT_OBF) |
                                       (state_.output ? spec::OUTPUT_PORT_OBF : 0)));
      break;
    case spec::DISABLE_A20:
      state_.output_port &= static_cast<std::uint8_t>(~spec::OUTPUT_PORT_A20);
      break;
    case spec::ENABLE_A20:
      state_.output_port |= spec::OUTPUT_PORT_A20;
      break;
    case spec::WRITE_OUTPUT_PORT:
    case spec::WRITE_KBD_BUFFER:
    case spec::WRITE_AUX_BUFFER:
    case spec::WRITE_AUX:
      state_.command = command;
      break;
    default:  // an unknown command does nothing
      break;
  }
}

void I8042::run_data(std::uint8_t value) {
  const std::uint8_t command = std::exchange(state_.command, std::uint8_t{0});
  switch (command) {
    case spec::WRITE_OUTPUT_PORT:
      write_output_port(value);
      return;
    case spec::WRITE_KBD_BUFFER:
      answer(value);
      return;
    case spec::WRITE_AUX_BUFFER:
      answer(0xff);
      return;
    case spec::WRITE_AUX:
      answer(spec::KBD_RESEND);
      state_.timed_out = true;
      return;
    case 0:  // for the keyboard, whose answer takes the place of what was not read
      state_.output.reset();
      keyboard_.receive(value);
      return;
    default:  // WRITE_RAM: run_command keeps no other
      state_.ram[(command - spec::WRITE_RAM) % state_.ram.size()] = value;
      return;
  }
}

void I8042::visit(Archive& archive) {
  archive.block("i8042", 2);
  State& s = state_;
  archive("command", s.command)("last_was_command", s.last_was_command);
  archive("output_port", s.output_port)("ram", s.ram);
  archive("output", s.output)("last_output", s.last_output);
  archive("timed_out", s.timed_out);
  keyboard_.visit(archive);
  irq1_.restore_level(irq_level());
}

}  // namespace vmm
