// What a user types at the terminal that shows the guest's screen, as a keyboard would send it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// Turns the bytes of a terminal (characters, control characters, the escape sequences of xterm and
// the Linux console) into scan codes of set 1 for a keyboard with US layout: each key is pressed
// and released, with Shift, Ctrl or Alt around it where the character needs one.
class TerminalKeys {
 public:
  enum class Event { None, Keys, Quit };
  // One read from the terminal; an escape character at its end is the key Esc. `keys` gets one list
  // of codes for each key. Ctrl-A x is Quit, Ctrl-A Ctrl-A types Ctrl-A.
  Event take(std::span<const std::uint8_t> bytes, std::vector<std::vector<std::uint8_t>>& keys);

 private:
  bool prefix_seen_ = false;  // Ctrl-A was typed
};

// The terminal on stdin, in raw mode, for as long as the guest's screen is on it.
class Keyboard {
 public:
  // Whether stdin is a terminal of ours and stdout shows the screen.
  static bool possible();
  // Null where it is not.
  static Result<std::unique_ptr<Keyboard>> open();
  int fd() const { return fd_; }
  // Reads what is there. The descriptor is -1 after the end of input.
  TerminalKeys::Event read(std::vector<std::vector<std::uint8_t>>& keys);

 private:
  explicit Keyboard(int fd) : fd_(fd) {}
  int fd_;
  TerminalKeys keys_;
};

}  // namespace vmm
