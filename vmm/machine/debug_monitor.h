// What a debugger's user asks the monitor in words: gdb's `monitor ...`.
#pragma once

#include <string>
#include <string_view>

#include "vmm/core/debugger.h"
#include "vmm/core/page_walk.h"

namespace vmm {

struct MonitorScene {
  DebugTarget& target;
  Debugger& debugger;
  const PagingFeatures& paging;
  unsigned vcpu = 0;  // that the user looks at
};

// Carries out one command line; the text to print, with its line ends. An unknown command names the
// nearest one. Only while the guest is stopped.
std::string run_monitor(const MonitorScene& scene, std::string_view line);

}  // namespace vmm
