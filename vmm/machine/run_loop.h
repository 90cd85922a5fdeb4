// What one exit of the guest leads to: a free function over values, tested without KVM.
#pragma once

#include <variant>

#include "vmm/core/exit.h"
#include "vmm/core/outcome.h"
#include "vmm/machine/pc_board.h"

namespace vmm {

namespace step {
struct Continue {};  // run the guest again
struct Stop {        // the run is over
  RunOutcome outcome;
};
struct Break {  // the debugger decides
  DebugStop stop;
};
}  // namespace step
using Step = std::variant<step::Continue, step::Stop, step::Break>;

// Serves `exit` of vCPU `vcpu`, whose instruction pointer was `rip`. The caller holds the board.
Step handle_exit(const Exit& exit, Board& board, unsigned vcpu, Gva rip);

}  // namespace vmm
