// The LAPIC in all its modes, and the IOAPIC.
#include "guest-tests/guests/fuzz_access.h"
#include "guest-tests/guests/fuzz_operations.h"

using namespace guest;

namespace fuzz {
namespace {

uintptr_t lapic_page() { return fuzzer.apic_base & 0xfffff000; }

void write_lapic(uint32_t offset, uint32_t data) {
  ++fuzzer.operations;
  if (in_x2apic(fuzzer.apic_base))
    wrmsr(0x800 + (offset >> 4), data);
  else
    mmio_write<uint32_t>(lapic_page() + offset, data);
}

uint32_t destination() {
  const uint32_t r = rng().next32();
  switch (r & 3) {
    case 0:
      return 0xff;
    case 1:
      return r >> 8 & 0xff;
    default:
      return r >> 8 & 3;
  }
}

uint32_t count_value() {
  const uint32_t r = rng().next32();
  switch (r & 3) {
    case 0:
      return 1;
    case 1:
      return r >> 2 & 0xf;
    case 2:
      return r >> 12;
    default:
      return r;
  }
}

}  // namespace

void lapic_register() {
  access_memory((rng().one_in(16) ? kLapic : lapic_page()) + page_offset(), without_init(value()));
}

void ipis() {
  const uint32_t count = 1u << rng().below(5);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t r = rng().next32();
    uint32_t command = without_init(r & 0xfffff);
    if ((r >> 20 & 3) == 0) command = (command & 0xc00ff) | spec::ICR_ASSERT;  // a plain one
    if ((r >> 24 & 0xf) == 0) command = 0x8500;                                // INIT, de-asserted
    if ((r >> 28 & 7) != 0) command |= 0x20;                                   // a legal vector
    if (in_x2apic(fuzzer.apic_base)) {
      const uint32_t target = destination();
      ++fuzzer.operations;
      wrmsr(0x830, uint64_t{target == 0xff ? 0xffffffff : target} << 32 |
                       (rng().one_in(8) ? command : command & 0xcdfff));
      if ((r >> 24 & 3) == 0) write_lapic(0x3f0, command & 0xff);  // SELF IPI
    } else {
      write_lapic(spec::ICR_HIGH, destination() << 24 | (r & 0xffff));
      write_lapic(spec::ICR_LOW, command);
    }
  }
}

void lapic_timer() {
  const uint32_t r = rng().next32();
  if ((r & 1) != 0)
    write_lapic(spec::TIMER_DIVIDE, (r & 2) != 0 ? spec::DIVIDE_BY_1 : r >> 8 & 0xb);
  if ((r & 0xc) != 0) {
    // One-shot, periodic, TSC-deadline, and the reserved mode; masked once in eight.
    const uint32_t mode = (r >> 4 & 3) << 17 | ((r >> 6 & 7) == 0 ? spec::LVT_MASKED : 0);
    write_lapic(spec::LVT_TIMER, mode | (r >> 16 & 0xff));
  }
  write_lapic(spec::TIMER_INITIAL, count_value());
  if (!in_x2apic(fuzzer.apic_base)) lapic_read(spec::TIMER_CURRENT);
}

void tsc_deadline() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  const uint64_t now = uint64_t{high} << 32 | low;
  const uint32_t r = rng().next32();
  uint64_t deadline = 0;
  switch (r & 7) {
    case 0:
      deadline = r >> 3 & 1;  // disarmed, or long ago
      break;
    case 1:
      deadline = ~uint64_t{r >> 3 & 0xff};
      break;
    case 2:
      deadline = rng().next();
      break;
    case 3:
      deadline = now - (r >> 8);
      break;
    default:
      deadline = now + (r >> (8 + (r >> 3 & 15)));
      break;
  }
  if ((r & 0x80) != 0) write_lapic(spec::LVT_TIMER, spec::LVT_TSC_DEADLINE | (r >> 16 & 0xff));
  ++fuzzer.operations;
  wrmsr(spec::IA32_TSC_DEADLINE, deadline);
  if ((r & 0x700) == 0) rdmsr(spec::IA32_TSC_DEADLINE);
}

void ends_of_interrupt() {
  const uint32_t count = 1 + rng().below(8);
  for (uint32_t i = 0; i < count; ++i) write_lapic(spec::EOI, rng().one_in(4) ? value() : 0);
}

void x2apic_msr() {
  if (!in_x2apic(fuzzer.apic_base) && !rng().one_in(8)) return lapic_register();
  const uint32_t r = rng().next32();
  const uint32_t index = 0x800 + ((r & 7) == 0 ? r >> 8 & 0xff : r >> 8 & 0x3f);
  ++fuzzer.operations;
  if ((r & 8) != 0) {
    rdmsr(index);
    return;
  }
  const uint64_t high = (r & 0x70) == 0 ? uint64_t{value()} << 32 : 0;
  wrmsr(index, high | without_init(value()));
}

// The steps that the manual allows (SDM vol. 3A 10.12.5) three times in four, else anything.
void apic_base() {
  constexpr uint32_t kPages[] = {0xfee00000, 0xfee00000, 0xfed00000, 0xfec00000,
                                 0xe0000000, 0xa0000,    0xfffe0000, 0xff000000};
  const uint32_t r = rng().next32();
  uint64_t wanted = 0;
  switch (r & 3) {
    case 0:
      wanted = fuzzer.apic_base | spec::BASE_ENABLE | spec::BASE_X2APIC;
      break;
    case 1:
      wanted = (fuzzer.apic_base & spec::BASE_ENABLE) != 0
                   ? fuzzer.apic_base & ~(spec::BASE_ENABLE | spec::BASE_X2APIC)
                   : fuzzer.apic_base | spec::BASE_ENABLE;
      break;
    case 2:
      wanted = (fuzzer.apic_base & 0xe00) | kPages[r >> 2 & 7] | (r >> 5 & 1) << 8;
      break;
    default:
      wanted = kPages[r >> 2 & 7] | (r >> 5 & 15) << 8;
      if ((r >> 9 & 3) == 0) wanted ^= uint64_t{1} << (r >> 16 & 63);
      break;
  }
  // RAM in its place would take the handler's EOIs.
  if ((wanted & 0xfffff000) < fuzzer.ram_end && (wanted & 0xfffff000) != 0xa0000)
    wanted |= 0xe0000000;
  ++fuzzer.operations;
  interrupts_off();
  write_apic_base(wanted);
  interrupts_as_chosen();
}

void task_priority() {
  ++fuzzer.operations;
  const uint64_t priority = rng().below(16);
  if (fuzzer.in_qemu) return;
  // kvm_intel of Linux 6.1 leaves its TPR threshold behind where no "virtualize APIC accesses"
  // excuses it, and the next VM entry fails ("entry-failure-tpr-threshold").
  const bool xapic =
      (fuzzer.apic_base & (spec::BASE_ENABLE | spec::BASE_X2APIC)) == spec::BASE_ENABLE;
  if (fuzzer.on_vmx && !xapic) return;
  asm volatile("mov %0, %%cr8" : : "r"(priority));
}

void ioapic() {
  const uint32_t r = rng().next32();
  if ((r & 3) == 0) {
    const uint32_t offset = (r & 4) != 0 ? page_offset() : r >> 3 & 0x70;
    return access_memory(kIoapic + offset, without_init(value()));
  }
  const uint32_t index = (r & 0xc) == 0 ? r >> 8 & 0xff : 0x10 + (r >> 8) % 48;
  mmio_write<uint32_t>(kIoapic, index);
  ++fuzzer.operations;
  if ((r & 0x30) == 0) {
    mmio_read<uint32_t>(kIoapic + 0x10);
    return;
  }
  uint32_t data = without_init(value());
  if ((index & 1) != 0) data = destination() << 24;
  if ((index & 1) == 0 && (r & 0x40) != 0)  // what a kernel would write: fixed, not masked
    data = (r >> 16 & 0xff) | 0x20 | (r >> 9 & 0x8000);
  mmio_write<uint32_t>(kIoapic + 0x10, data);
}

}  // namespace fuzz
