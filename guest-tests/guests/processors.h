// Starting the other processors of a 64-bit guest and keeping their ids.
#pragma once

#include "guest-tests/guests/lapic.h"

extern "C" {
// The guest's own: what each of the others does, with a stack and the first one's page tables.
void ap_main();
extern const uint8_t trampoline[], trampoline_end[], trampoline_cr3[];
void* memcpy(void* target, const void* source, __SIZE_TYPE__ count);
constexpr uint32_t kMaxProcessors = 64;
alignas(16) uint8_t ap_stacks[(kMaxProcessors + 1) * 4096];  // one more start, after an INIT
uint32_t ap_next_stack;
}

namespace guest {

constexpr uintptr_t kTrampoline = 0x8000;
inline uint32_t up_count;
inline uint32_t up_ids[kMaxProcessors + 1];

// Each of the others calls it once it is ready.
inline void processor_is_up() {
  const uint32_t index = __atomic_fetch_add(&up_count, 1, __ATOMIC_SEQ_CST);
  up_ids[index % (kMaxProcessors + 1)] = lapic_read(spec::APIC_ID) >> 24;
}
inline uint32_t processors_up() { return __atomic_load_n(&up_count, __ATOMIC_SEQ_CST); }
inline uint32_t processor_id(uint32_t index) { return up_ids[index]; }

// Some seconds where each instruction is emulated, less elsewhere; a port access each time lets
// the others run when all share one host CPU.
inline bool wait_until_up(uint32_t count) {
  for (uint32_t tries = 0; tries < 300000 && processors_up() < count; ++tries) in8(0x80);
  return processors_up() == count;
}

// Starts all of `count` processors but this one.
inline bool start_processors(uint32_t count) {
  if (count > kMaxProcessors) return false;
  memcpy(reinterpret_cast<void*>(kTrampoline), trampoline,
         static_cast<__SIZE_TYPE__>(trampoline_end - trampoline));
  mmio_write<uint32_t>(kTrampoline + static_cast<uintptr_t>(trampoline_cr3 - trampoline),
                       static_cast<uint32_t>(read_cr3()));
  if (count > 1) start_other_processors(kTrampoline);
  return wait_until_up(count - 1);
}

// One that had an INIT; its id is listed a second time.
inline bool restart_processor(uint32_t id) {
  const uint32_t before = processors_up();
  send_ipi(id, spec::ICR_STARTUP | kTrampoline >> 12);
  return wait_until_up(before + 1);
}

}  // namespace guest
