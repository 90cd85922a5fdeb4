// The user's terminal: raw while the guest has it, restored whatever happens.
#pragma once

#include "vmm/base/result.h"

namespace vmm {

// True if descriptor `fd` is a terminal that this process may use now (it is in the foreground).
bool is_foreground_terminal(int fd);

// Puts the terminal `fd` into raw mode (no echo, no signals from keys) until leave_raw_mode(), the
// end of the process or its death by a signal: handlers for fatal signals restore it first.
Result<void> enter_raw_mode(int fd);
// Takes the alternate screen of the terminal `fd`, given back like the mode.
Result<void> enter_alternate_screen(int fd);
// Everything as it was; safe to call from signal handlers, and more than once.
void restore_terminal();

}  // namespace vmm
