#include "vmm/core/debug_control.h"

namespace vmm {

std::uint64_t dr7_of(
    const std::array<std::optional<HardwareBreakpoint>, DebugControl::kSlots>& slots) {
  constexpr std::uint64_t kAlways = 1u << 10;
  constexpr std::uint64_t kGlobalExact = 1u << 9;
  std::uint64_t dr7 = kAlways;
  for (unsigned i = 0; i < slots.size(); ++i) {
    if (!slots[i]) continue;
    using Kind = HardwareBreakpoint::Kind;
    const std::uint64_t kind = slots[i]->kind == Kind::Execute ? 0
                               : slots[i]->kind == Kind::Write ? 1
                                                               : 3;
    // LEN: 0 one byte, 1 two, 3 four, 2 eight.
    const unsigned length = slots[i]->length;
    const std::uint64_t size = length == 8 ? 2 : length - 1;
    dr7 |= kGlobalExact | 2ull << (2 * i) | (kind | size << 2) << (16 + 4 * i);
  }
  return dr7;
}

}  // namespace vmm
