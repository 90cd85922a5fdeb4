// What a processor is in the middle of, as a hypervisor must know it to go on with it as a guest:
// as the firmware left it, or as INIT and SIPI leave it.
#pragma once

#include "guest-tests/guests/idt.h"

namespace efi_hypervisor {

// Attributes are bits 47:40 of a descriptor, and 55:52 in bits 11:8; 0 is unusable.
struct SegmentState {
  uint16_t selector = 0;
  uint16_t attributes = 0;
  uint32_t limit = 0;
  uint64_t base = 0;
};

enum SegmentName : uint8_t { ES, CS, SS, DS, FS, GS, LDTR, TR, kSegmentCount };

struct ProcessorState {
  SegmentState segment[kSegmentCount];
  guest::TableRegister gdtr{}, idtr{};
  uint64_t cr0 = 0, cr3 = 0, cr4 = 0, efer = 0, dr7 = 0x400;
  uint64_t rip = 0, rsp = 0, rflags = 2;
};

// This processor, now, at an instruction and stack of the caller's choice with interrupts off.
ProcessorState captured_state(uint64_t rip, uint64_t rsp);

// After INIT and SIPI (SDM Vol. 3A 9.1, 8.4.3; APM Vol. 2 14.1.3, 16.5): real mode at page `vector`
// of the first megabyte. `cr0` is the one from before: INIT leaves CD and NW as they are.
ProcessorState state_after_sipi(uint8_t vector, uint64_t cr0);

// What the general registers have then: nothing, but RDX, which holds the processor's signature.
inline uint64_t rdx_after_init() { return guest::cpuid(1).eax; }

}  // namespace efi_hypervisor
