// --vga text: the guest's screen on the terminal while it runs.
#pragma once

#include <memory>
#include <string>

#include "devices/vga_text.h"

namespace vmm {

class LiveScreen {
 public:
  // True when stdout is a terminal of ours.
  static bool possible();
  // Takes the alternate screen of the terminal `terminal`.
  explicit LiveScreen(int terminal);
  // Draws the picture if it changed. Never waits: while the terminal has not taken a whole frame,
  // the pictures that come are dropped, and the next call after it draws the newest.
  void show(const VgaSnapshot& snapshot);
  // Lets the terminal take the frame that was begun, and makes sure that it takes what gives the
  // screen back; not for longer than `seconds` without progress.
  void finish(double seconds);

 private:
  bool send();

  int fd_;
  std::string frame_;     // the last one that was begun
  std::size_t sent_ = 0;  // how much of it the terminal has
};

}  // namespace vmm
