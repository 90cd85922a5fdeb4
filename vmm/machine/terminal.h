// The user's terminal: raw while the guest has it, restored whatever happens.
#pragma once

#include <string_view>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

// True if descriptor `fd` is a terminal that this process may use now (it is in the foreground).
bool is_foreground_terminal(int fd);

// Puts the terminal `fd` into raw mode (no echo, no signals from keys) until leave_raw_mode(), the
// end of the process or its death by a signal: handlers for fatal signals restore it first.
Result<void> enter_raw_mode(int fd);
// Takes the screen of the terminal `fd`: from now on it is given back like the mode. The caller
// enters the alternate screen through the descriptor that comes back, one for writing without
// waiting (open_for_output) that stays open until the end of the process.
int take_screen(int fd);
// Everything as it was; safe to call from signal handlers, and more than once. Never waits for a
// terminal whose output is held.
void restore_terminal();

// A descriptor of our own for the terminal `fd`, whose writes never wait: O_NONBLOCK on `fd` itself
// would hold for the shell that gave it to us as well. Where the terminal cannot be opened again
// (it belongs to another user), a copy of `fd`, good for kTerminalChunk bytes each time poll()
// allows output.
Fd open_for_output(int fd);
// A terminal with any room at all takes this much.
constexpr std::size_t kTerminalChunk = 256;
// Gives the terminal `fd` (of open_for_output) as much of `bytes` as it takes without waiting; how
// much that was.
std::size_t write_without_waiting(int fd, std::string_view bytes);
// Whether `fd` takes output, now or within `seconds`.
bool takes_output(int fd, double seconds);

}  // namespace vmm
