// A vCPU's registers as a debugger sees and changes them.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/core/cpu_state.h"

namespace vmm {

struct DebugRegisters {
  CpuState cpu;
  // The XSAVE area in its standard (not compacted) form; SDM vol. 1 13.4. Empty where the host
  // gives none.
  std::vector<std::uint8_t> xsave;
  std::uint64_t xcr0 = 0;
};

}  // namespace vmm
