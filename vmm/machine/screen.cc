#include "vmm/machine/screen.h"

#include <unistd.h>

#include <string_view>

#include "vmm/machine/terminal.h"

namespace vmm {

bool LiveScreen::possible() { return is_foreground_terminal(STDOUT_FILENO); }

LiveScreen::LiveScreen(int terminal) : fd_(take_screen(terminal)), frame_("\x1b[?1049h\x1b[2J") {}

// True when the terminal has all of the frame.
bool LiveScreen::send() {
  sent_ += write_without_waiting(fd_, std::string_view(frame_).substr(sent_));
  return sent_ == frame_.size();
}

void LiveScreen::show(const VgaSnapshot& snapshot) {
  // Half a frame ends within an escape sequence: it has to be finished.
  if (!send()) return;
  std::string frame = "\x1b[H" + render_ansi(snapshot);
  if (frame == frame_) return;
  frame_ = std::move(frame);
  sent_ = 0;
  send();
}

void LiveScreen::finish(double seconds) {
  // A terminal that has gone says that it takes output, and takes none.
  bool moves = true;
  while (moves && takes_output(fd_, seconds)) {
    if (sent_ == frame_.size()) return;
    const std::size_t before = sent_;
    send();
    moves = sent_ != before;
  }
}

}  // namespace vmm
