// What INIT and SIPI make of a processor's registers, where KVM's LAPIC does not do it.
#pragma once

#include <cstdint>

#include "vmm/core/cpu_state.h"

namespace vmm {

// SDM vol. 3A Table 10-1 (9-1 in older editions), the INIT column: general, segment, control and
// debug registers as after power-on; CR0.CD and CR0.NW, the APIC base, x87, SSE, XCR0, the TSC and
// the MSRs stay; pending events are gone. `signature` is CPUID.1.EAX, which EDX is left with.
CpuState after_init(const CpuState& before, std::uint32_t signature);

// 9.4.4: real mode at page `page` (0 to FFh), that is at physical address page * 1000h.
void start_at(CpuState& state, std::uint8_t page);

}  // namespace vmm
