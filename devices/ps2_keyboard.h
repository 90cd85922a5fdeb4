// Chip:       PS/2 keyboard with 102 keys, behind the keyboard controller (i8042)
// Source:     IBM Personal System/2 Hardware Interface Technical Reference, keyboard (101- and
//             102-key); the commands that the Linux driver and common hobby kernels send
// Implements: acknowledge, reset with self-test, identification, echo, enable and disable, LEDs,
//             typematic rate, scan code sets 1 to 3 by number, typed keys in a buffer of 16
// Leaves out: typematic repetition (the terminal repeats), scan codes of set 3
// Differs:    keys are kept as the codes of set 1, what a controller with translation gives, and
//             turned back into those of set 2 where the guest switches translation off; a key that
//             does not fit into the buffer as a whole is dropped
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include "vmm/base/archive.h"

namespace vmm {

class Ps2Keyboard {
 public:
  struct State {
    std::deque<std::uint8_t> answers;   // to commands; they come before keys
    std::deque<std::uint8_t> keys;      // codes of set 1
    std::optional<std::uint8_t> parts;  // the second byte of a code of set 2
    std::uint8_t command = 0;           // the command that waits for its parameter, or 0
    std::uint8_t set = 2;               // scan code set
    bool scanning = true;

    bool operator==(const State&) const = default;
  };
  static constexpr std::size_t kBuffer = 16;
  static constexpr std::size_t kAnswers = 3;  // the most that one command has

  // A byte from the controller.
  void receive(std::uint8_t value);
  // The codes of set 1 of a key that is pressed or released, or of several. Dropped where the guest
  // has switched scanning off or the buffer is too full.
  void type(std::span<const std::uint8_t> codes);
  // The next byte for the controller, which turns codes of set 2 into those of set 1 if
  // `translate`. Nothing of the keys while the controller holds the keyboard's clock (`held`).
  std::optional<std::uint8_t> next(bool translate, bool held);

  void reset() { state_ = {}; }
  void visit(Archive& archive);
  const State& state() const { return state_; }

 private:
  void run_command(std::uint8_t command);

  State state_;
};

}  // namespace vmm
