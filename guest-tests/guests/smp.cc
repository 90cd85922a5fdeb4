// Starts every other processor with INIT-SIPI-SIPI, waits until each has counted itself in long
// mode, and ends with 0; with 1 when one does not come.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/lapic.h"

extern "C" {
extern const uint8_t trampoline[], trampoline_end[], trampoline_cr3[];
void* memcpy(void* target, const void* source, __SIZE_TYPE__ count);
constexpr uint32_t kMaxProcessors = 64;
alignas(16) uint8_t ap_stacks[kMaxProcessors * 4096];
uint32_t ap_next_stack;

static uint32_t started;
static uint32_t ids_seen[8];  // one bit for each initial APIC ID

// Runs on each of the others.
void ap_main() {
  const uint32_t id = guest::cpuid(1).ebx >> 24;
  __atomic_fetch_or(&ids_seen[id / 32], 1u << (id % 32), __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
}
}

uint32_t guest_main(uint32_t, uint32_t) {
  constexpr uintptr_t kPlace = 0x8000;
  guest::serial_init();
  const uint32_t count = guest::processor_count();
  guest::print("smp: ", guest::decimal(count), " processors by CPUID\n");
  if (count > kMaxProcessors) return 2;
  memcpy(reinterpret_cast<void*>(kPlace), trampoline,
         static_cast<__SIZE_TYPE__>(trampoline_end - trampoline));
  guest::mmio_write<uint32_t>(kPlace + static_cast<uintptr_t>(trampoline_cr3 - trampoline),
                              static_cast<uint32_t>(guest::read_cr3()));
  if (count > 1) guest::start_other_processors(kPlace);
  // Some seconds where each instruction is emulated, less elsewhere; a port access each time lets
  // the others run when all share one host CPU.
  for (uint32_t tries = 0; tries < 300000; ++tries) {
    if (__atomic_load_n(&started, __ATOMIC_SEQ_CST) >= count - 1) break;
    guest::in8(0x80);
  }
  const uint32_t all = __atomic_load_n(&started, __ATOMIC_SEQ_CST) + 1;
  guest::print("smp: ", guest::decimal(all), " of ", guest::decimal(count), " run\n");
  uint32_t different = 0;
  for (uint32_t word : ids_seen)
    for (; word != 0; word &= word - 1) ++different;
  guest::require(all == count, "every processor came", 1);
  guest::require(different == count - 1, "each with an APIC ID of its own", 3);
  return 0;
}
