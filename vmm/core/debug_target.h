// What a debugger or an explanation needs of a machine, and all it may do to it.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/base/result.h"
#include "vmm/core/cpu_state.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/symbols.h"

namespace vmm {

class DebugTarget {
 public:
  virtual ~DebugTarget() = default;

  virtual unsigned vcpu_count() const = 0;
  // Every vCPU stops at an instruction boundary with its pending exit completed, and virtual time
  // stands still until resume(). Idempotent.
  virtual Result<void> pause() = 0;
  virtual Result<void> resume() = 0;
  // Only while paused.
  virtual Result<CpuState> cpu_state(unsigned vcpu) = 0;
  virtual Result<void> set_cpu_state(unsigned vcpu, const CpuState& state) = 0;
  // Guest physical memory; reads never touch a device.
  virtual const MemoryReader& memory() const = 0;
  // False when a part of the range is not RAM; nothing is written then.
  virtual bool write_memory(Gpa gpa, std::span<const std::uint8_t> data) = 0;
  virtual const SymbolTable& symbols() const = 0;
};

}  // namespace vmm
