// --vga text: the guest's screen on the terminal while it runs, and as plain text at the end.
#pragma once

#include <memory>
#include <string>

#include "devices/vga_text.h"
#include "vmm/base/result.h"

namespace vmm {

class LiveScreen {
 public:
  // True when stdout is a terminal of ours.
  static bool possible();
  // Takes the terminal's alternate screen.
  static Result<std::unique_ptr<LiveScreen>> open();
  // Draws the picture if it changed.
  void show(const VgaSnapshot& snapshot);

 private:
  std::string last_;
};

}  // namespace vmm
