// What a debugger or an explanation needs of a machine, and all it may do to it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/core/cpu_state.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/debug_control.h"
#include "vmm/core/debug_registers.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/nested_position.h"
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

  // What follows serves a debugger (vmm/core/debugger.h); a target without it says so.
  virtual DebugSupport debug_support() const { return {}; }
  // Only while paused, as all of these.
  virtual Result<DebugRegisters> registers(unsigned vcpu) {
    return DebugRegisters{.cpu = VMM_TRY(cpu_state(vcpu)), .xsave = {}};
  }
  // General, segment and control registers alone, for less than the whole state.
  virtual Result<CpuState> brief_state(unsigned vcpu) { return cpu_state(vcpu); }
  // KVM_MP_STATE_*, for less than the whole state.
  virtual Result<std::uint32_t> mp_state(unsigned vcpu) {
    return VMM_TRY(cpu_state(vcpu)).mp_state;
  }
  // What KVM or the processor refuses is an error, and nothing is changed then.
  virtual Result<void> set_registers(unsigned vcpu, const DebugRegisters& registers) {
    return set_cpu_state(vcpu, registers.cpu);
  }
  virtual Result<std::uint64_t> msr(unsigned /*vcpu*/, std::uint32_t /*index*/) {
    return fail(Error::internal("this target has no MSRs"));
  }
  virtual Result<void> set_msr(unsigned /*vcpu*/, std::uint32_t /*index*/,
                               std::uint64_t /*value*/) {
    return fail(Error::internal("this target has no MSRs"));
  }
  // What the guest finds in CPUID.
  virtual const CpuidTable& cpuid() const {
    static const CpuidTable none;
    return none;
  }
  // Only of a vCPU whose guest may be a hypervisor is there more to say than that it is in L1.
  virtual NestedPosition nested_position(unsigned /*vcpu*/) { return {}; }
  // Holds until it is set anew.
  virtual Result<void> set_debug_control(unsigned /*vcpu*/, const DebugControl& /*control*/) {
    return fail(Error::internal("this target cannot be debugged"));
  }
  // Lets those vCPUs run for which `who` is true, and the guest's clocks with them. Ends when one
  // of them stops for its control, or by pause().
  virtual Result<void> run_some(const std::vector<bool>& /*who*/) {
    return fail(Error::internal("this target cannot be debugged"));
  }
};

}  // namespace vmm
