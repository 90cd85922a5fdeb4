#include "examples/uefi-hypervisor/processor_state.h"

#include "guest-tests/guests/task_state.h"

namespace efi_hypervisor {
namespace {

using namespace guest;

constexpr uint32_t kEfer = 0xc0000080, kFsBase = 0xc0000100, kGsBase = 0xc0000101;
constexpr uint16_t kCodeOrData = 1 << 4, kAccessed = 1 << 0, kGranular = 1 << 11;
constexpr SegmentState kNoTask{0, 0x8b, 0x67, 0};

SegmentState from_gdt(uint16_t selector, const TableRegister& gdtr) {
  const uint32_t offset = selector & ~7u;
  // A selector of the LDT, which firmware has no use for, is as good as none.
  if (offset == 0 || (selector & 4) != 0 || offset + 7 > gdtr.limit) return {.selector = selector};
  const uint64_t low = *reinterpret_cast<const uint64_t*>(gdtr.base + offset);
  SegmentState segment{.selector = selector};
  segment.attributes = static_cast<uint16_t>((low >> 40 & 0xff) | (low >> 52 & 0xf) << 8);
  segment.limit = static_cast<uint32_t>((low & 0xffff) | (low >> 32 & 0xf0000));
  if ((segment.attributes & kGranular) != 0) segment.limit = segment.limit << 12 | 0xfff;
  segment.base = (low >> 16 & 0xffffff) | (low >> 56) << 24;
  if ((segment.attributes & kCodeOrData) != 0) {
    segment.attributes |= kAccessed;  // for it is loaded
  } else if (offset + 15 <= gdtr.limit) {
    segment.base |= *reinterpret_cast<const uint64_t*>(gdtr.base + offset + 8) << 32;
  }
  return segment;
}

}  // namespace

ProcessorState captured_state(uint64_t rip, uint64_t rsp) {
  ProcessorState state;
  state.gdtr = stored_gdtr();
  state.idtr = stored_idtr();
  uint16_t selectors[kSegmentCount];
  asm("mov %%es, %0" : "=r"(selectors[ES]));
  asm("mov %%cs, %0" : "=r"(selectors[CS]));
  asm("mov %%ss, %0" : "=r"(selectors[SS]));
  asm("mov %%ds, %0" : "=r"(selectors[DS]));
  asm("mov %%fs, %0" : "=r"(selectors[FS]));
  asm("mov %%gs, %0" : "=r"(selectors[GS]));
  asm("sldt %0" : "=r"(selectors[LDTR]));
  asm("str %0" : "=r"(selectors[TR]));
  for (uint8_t i = 0; i < kSegmentCount; ++i) state.segment[i] = from_gdt(selectors[i], state.gdtr);
  state.segment[FS].base = rdmsr(kFsBase);
  state.segment[GS].base = rdmsr(kGsBase);
  // Firmware has no task, but a guest must have one (SDM 26.3.1.2).
  if (state.segment[TR].attributes == 0) state.segment[TR] = kNoTask;
  state.cr0 = read_cr0();
  state.cr3 = read_cr3();
  state.cr4 = read_cr4();
  state.efer = rdmsr(kEfer);
  asm("mov %%dr7, %0" : "=r"(state.dr7));
  state.rip = rip;
  state.rsp = rsp;
  return state;
}

ProcessorState state_after_sipi(uint8_t vector, uint64_t cr0) {
  ProcessorState state;
  for (SegmentState& segment : state.segment) segment = {0, 0x93, 0xffff, 0};
  state.segment[CS] = {static_cast<uint16_t>(vector << 8), 0x9b, 0xffff,
                       static_cast<uint64_t>(vector) << 12};
  state.segment[LDTR].attributes = 0x82;
  state.segment[TR].attributes = 0x8b;
  state.gdtr.limit = state.idtr.limit = 0xffff;
  state.cr0 = (cr0 & 0x60000000) | 0x10;
  return state;
}

}  // namespace efi_hypervisor
