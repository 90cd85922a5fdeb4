// For tests: an event as a guest's write to its serial port makes it.
#pragma once

#include <cstdint>

#include "vmm/core/trace.h"

namespace vmm {

inline TraceEvent out_event(std::uint64_t value, unsigned vcpu = 0) {
  return {.vcpu = vcpu,
          .kind = "out",
          .address = 0x3f8,
          .value = value,
          .width = 1,
          .device = "serial0"};
}

}  // namespace vmm
