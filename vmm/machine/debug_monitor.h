// What a debugger's user asks the monitor in words: gdb's `monitor ...`, and the control socket.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "vmm/core/debugger.h"
#include "vmm/core/page_walk.h"
#include "vmm/machine/monitor_machine.h"

namespace vmm {

// Why the guest stands still.
struct StopReason {
  enum class Kind : std::uint8_t {
    Start,     // it has not run yet
    Asked,     // someone wanted a look
    Reported,  // it stopped by itself
  };
  Kind kind = Kind::Start;
  DebugReport report{};  // Reported
};

struct MonitorScene {
  DebugTarget& target;
  MonitorMachine& machine;
  Debugger* debugger;  // null: there is none
  const PagingFeatures& paging;
  unsigned vcpu = 0;  // that the user looks at
  StopReason stop{};
};

struct MonitorAnswer {
  enum class Status : std::uint8_t {
    Done,
    Usage,   // no such command, or not with these arguments
    Failed,  // it could not be done
  };
  Status status = Status::Done;
  std::string text;  // with its line ends
};

// Carries out one command line. An unknown command names the nearest one. Only while the guest is
// stopped.
MonitorAnswer run_monitor(const MonitorScene& scene, std::string_view line);

}  // namespace vmm
