#include "vmm/machine/screen.h"

#include <unistd.h>

#include "vmm/machine/terminal.h"

namespace vmm {

bool LiveScreen::possible() { return is_foreground_terminal(STDOUT_FILENO); }

Result<std::unique_ptr<LiveScreen>> LiveScreen::open() {
  VMM_TRY(enter_alternate_screen(STDOUT_FILENO));
  return std::make_unique<LiveScreen>();
}

void LiveScreen::show(const VgaSnapshot& snapshot) {
  std::string picture = "\x1b[H" + render_ansi(snapshot);
  if (picture == last_) return;
  last_ = std::move(picture);
  std::string_view rest = last_;
  while (!rest.empty()) {
    const ssize_t done = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (done <= 0) return;
    rest.remove_prefix(static_cast<std::size_t>(done));
  }
}

}  // namespace vmm
