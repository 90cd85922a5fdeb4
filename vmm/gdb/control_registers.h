// Control and debug registers, RIP and RFLAGS of a vCPU with the rules of the hardware (SDM vol. 3A
// 2.5, 17.2): what MOV or WRMSR would answer with #GP, or the processor refuse to enter the guest
// with, is refused, and bits that are fixed are fixed.
#pragma once

#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/debug_registers.h"

namespace vmm::gdb {

enum class Control : std::uint8_t {
  Cr0,
  Cr2,
  Cr3,
  Cr4,
  Cr8,
  Efer,
  Xcr0,
  Dr0,
  Dr1,
  Dr2,
  Dr3,
  Dr6,
  Dr7
};

// What of the rules depends on the processor.
struct ControlLimits {
  unsigned phys_bits = 36;
  std::uint64_t xcr0 = 0;  // bits that it may have; 0 without XSAVE
  bool rtm = false;
  bool bus_lock_detect = false;

  static ControlLimits of(const CpuidTable& cpuid);
};

std::uint64_t read_control(Control which, const DebugRegisters& from);
Result<void> write_control(Control which, DebugRegisters& to, std::uint64_t value,
                           const ControlLimits& limits);
Result<void> write_rip(DebugRegisters& to, std::uint64_t value);
Result<void> write_rflags(DebugRegisters& to, std::uint64_t value);
// Bits 63 to 47 (56 with CR4.LA57) equal.
bool is_canonical(const DebugRegisters& registers, std::uint64_t address);

}  // namespace vmm::gdb
