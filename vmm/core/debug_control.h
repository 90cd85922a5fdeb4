// What a debugger asks the hypervisor for while a vCPU runs, as values (KVM_SET_GUEST_DEBUG in
// vmm/kvm).
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "vmm/base/units.h"

namespace vmm {

namespace spec {
constexpr std::uint64_t DR6_BS = 1ull << 14;     // a single step
constexpr std::uint64_t RFLAGS_RF = 1ull << 16;  // no instruction breakpoint at the next one
}  // namespace spec

// One of DR0 to DR3 with its part of DR7 (SDM vol. 3B 17.2.4).
struct HardwareBreakpoint {
  enum class Kind : std::uint8_t { Execute, Write, Access };
  Gva address = 0;  // a multiple of the length
  Kind kind = Kind::Execute;
  unsigned length = 1;  // 1, 2, 4 or 8 bytes; 1 for Execute

  bool operator==(const HardwareBreakpoint&) const = default;
};

struct DebugControl {
  static constexpr std::size_t kSlots = 4;

  bool step = false;              // stop after one instruction
  bool block_interrupts = false;  // and take no interrupt on the way
  bool int3 = false;              // every #BP of the guest stops
  bool inject_int3 = false;       // once, at the next entry: the #BP belongs to the guest
  bool inject_debug = false;      // the same for a #DB
  bool resume = false;  // once: the slot at which it stands lets it pass (RFLAGS.RF, SDM 17.3.1.1)
  std::array<std::optional<HardwareBreakpoint>, kSlots> slots;

  bool operator==(const DebugControl&) const = default;
};

// What this hypervisor can do of it.
struct DebugSupport {
  bool step = false;
  bool block_interrupts = false;
  bool int3 = false;
  bool hardware = false;     // slots that stop at an instruction
  bool watchpoints = false;  // slots that stop after an access to data
  bool inject_int3 = false;
  bool resume = false;               // slots heed RFLAGS.RF
  bool steps_into_handlers = false;  // a step that takes an interrupt stops in its handler

  bool operator==(const DebugSupport&) const = default;
};

// DR7 that enables `slots` globally, exactly (G0-G3, GE, the bit that is always set).
std::uint64_t dr7_of(
    const std::array<std::optional<HardwareBreakpoint>, DebugControl::kSlots>& slots);

}  // namespace vmm
