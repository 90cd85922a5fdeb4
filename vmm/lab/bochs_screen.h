// The terminal on which Bochs shows its guest's screen.
#pragma once

#include <sys/types.h>

#include <optional>

#include "vmm/base/fd.h"

namespace vmm {

// Bochs with a debugger, as Debian builds it, keeps standard output for that, and shows the screen
// on a pseudo-terminal of its own making (display_library: term). Every refresh writes some bytes
// to it; when nobody takes them its buffer is full after some 120 s of the lab's time, and the
// emulator waits in write(2) for good.
//
// The other end of the first pseudo-terminal that process `pid` has made, not blocking, without
// echo (what is echoed comes back as the guest's keyboard). Nothing while there is none.
std::optional<Fd> open_terminal_of(pid_t pid);

}  // namespace vmm
