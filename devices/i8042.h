// Chip:       Intel 8042 keyboard controller, ports 60h and 64h, with its keyboard
// Source:     IBM PS/2 Hardware Interface Technical Reference, keyboard and auxiliary device
//             controller; the commands that the Linux driver and common hobby kernels send
// Implements: status, configuration byte and controller RAM, self-test, interface tests, output
// port
//             with A20 and reset, reset pulse, translation, IRQ 1
// Leaves out: mouse, masking of address line 20
// Differs:    there is no mouse: the loop test gives FFh without the AUX flag and the interface
//             test 01h, which makes drivers give up at once; a byte sent to it is answered with
//             FEh.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "devices/ps2_keyboard.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

namespace vmm {

// Offset 0 is port 60h, offset 4 is port 64h; one byte each.
class I8042 final : public Device {
 public:
  struct State {
    std::uint8_t command = 0;  // the command that waits for its data byte at 60h, or 0
    bool last_was_command = true;
    std::uint8_t output_port = 0x03;  // reset inactive, A20 open
    // RAM byte 0 is the configuration byte: keyboard interrupt and translation on, no mouse, system
    // flag set, as a BIOS leaves it.
    std::array<std::uint8_t, 32> ram = {0x65};
    std::optional<std::uint8_t> output;  // the output buffer, what the next read of 60h gives
    std::uint8_t last_output = 0;
    bool timed_out = false;  // the byte in the output buffer stands for a device that is not there

    bool operator==(const State&) const = default;
  };

  // `irq1` is high while a byte waits and the configuration byte asks for it. `on_reset` is called
  // for the reset pulse; it may be empty.
  I8042(std::string name, IrqLine irq1, std::function<void()> on_reset);

  // Keys that the user pressed, as codes of set 1 (Ps2Keyboard::type).
  void type(std::span<const std::uint8_t> codes);

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }
  const Ps2Keyboard& keyboard() const { return keyboard_; }

 private:
  std::uint8_t read_output();
  std::uint8_t status() const;
  void run_command(std::uint8_t command);
  void run_data(std::uint8_t value);
  void answer(std::uint8_t value);
  void write_output_port(std::uint8_t value);
  void fill();
  bool irq_level() const;
  void update_irq();

  std::string name_;
  IrqLine irq1_;
  std::function<void()> on_reset_;
  State state_;
  Ps2Keyboard keyboard_;
};

}  // namespace vmm
