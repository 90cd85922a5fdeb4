// Nested page tables of 512 entries of 1 GiB each, every address its own, and nothing else: RAM,
// devices and the void in the same size. L2 touches one address of each kind through them and calls
// L1, which looks at what it found. L2's own tables have 2 MiB pages only, so that what the CPU
// model says of 1 GiB pages concerns the nested ones alone.
#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/svm.h"

namespace {

using namespace guest;

constexpr uint64_t kPresentWritableUser = 7, kLarge = 1 << 7, kGigabyte = 1 << 30;
constexpr uintptr_t kScreen = 0xb8000;
// Nothing is behind these: beyond a small machine's RAM, in the middle, and in the last page.
constexpr uint64_t kVoid[] = {4 * kGigabyte, 255 * kGigabyte + 0x1000, 512 * kGigabyte - 8};
constexpr uint64_t kVoids = sizeof kVoid / sizeof *kVoid;

struct alignas(4096) Table {
  uint64_t entry[512];
};
Table npt_pml4, npt_pdpt;
Table l2_pml4, l2_pdpt, l2_pds[4 + kVoids];
svm::Processor processor;

uint64_t address_of(const void* object) { return reinterpret_cast<uint64_t>(object); }

void build_npt() {
  npt_pml4.entry[0] = address_of(&npt_pdpt) | kPresentWritableUser;
  for (uint64_t g = 0; g < 512; ++g)
    npt_pdpt.entry[g] = g * kGigabyte | kLarge | kPresentWritableUser;
}

// The first 4 GiB and the gigabytes of kVoid.
void build_l2_tables() {
  l2_pml4.entry[0] = address_of(&l2_pdpt) | kPresentWritableUser;
  for (uint64_t i = 0; i < 4 + kVoids; ++i) {
    const uint64_t gigabyte = i < 4 ? i : kVoid[i - 4] / kGigabyte;
    l2_pdpt.entry[gigabyte] = address_of(&l2_pds[i]) | kPresentWritableUser;
    for (uint64_t j = 0; j < 512; ++j)
      l2_pds[i].entry[j] = gigabyte * kGigabyte | j << 21 | kLarge | kPresentWritableUser;
  }
}

// --- L2

struct Found {
  uint64_t ram;
  uint16_t screen;
  uint32_t lapic_version;
  uint64_t nothing[kVoids];
  uint32_t steps;  // how far it came
};
Found found;
uint64_t in_ram = 0x1122334455667788;

[[noreturn]] void l2_main() {
  found.ram = mmio_read<uint64_t>(address_of(&in_ram));
  mmio_write<uint64_t>(address_of(&in_ram), ~found.ram);
  found.steps = 1;
  mmio_write<uint16_t>(kScreen, 0x0731);
  found.screen = mmio_read<uint16_t>(kScreen);
  found.steps = 2;
  found.lapic_version = lapic_read(spec::VERSION);
  found.steps = 3;
  for (uint64_t i = 0; i < kVoids; ++i) {
    found.nothing[i] = mmio_read<uint64_t>(kVoid[i]);
    ++found.steps;
  }
  while (true) asm volatile("vmmcall" : : : "memory");
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  if (!svm::turn_on(processor)) return 2;
  const auto stack = address_of(processor.l2_stack) + sizeof processor.l2_stack - 8;
  if (!svm::prepare(processor, address_of(reinterpret_cast<const void*>(&l2_main)), stack))
    return 3;
  build_npt();
  build_l2_tables();
  processor.vmcb.put(svm::N_CR3, address_of(&npt_pml4));
  processor.vmcb.put(svm::CR3, address_of(&l2_pml4));
  print("svm-1g-npt: 512 nested pages of 1 GiB, CPUID ",
        svm::has_gigabyte_pages() ? "has" : "lacks", " pdpe1gb\n");

  svm::Registers l2{};
  const uint64_t code = svm::enter(processor, l2);
  if (code == svm::VMEXIT_NPF && !svm::has_gigabyte_pages() &&
      (processor.vmcb.get(svm::EXITINFO1) & 1 << 3) != 0) {
    print("ok      without pdpe1gb PS is a reserved bit: nested page fault, EXITINFO1 ",
          hex(processor.vmcb.get(svm::EXITINFO1)), " (RSV), EXITINFO2 ",
          hex(processor.vmcb.get(svm::EXITINFO2)), "\n");
    return 0;
  }
  if (code != svm::VMEXIT_VMMCALL) {
    print("FAILED  after ", decimal(found.steps), " steps: exit ", hex(code), ", EXITINFO1 ",
          hex(processor.vmcb.get(svm::EXITINFO1)), ", EXITINFO2 ",
          hex(processor.vmcb.get(svm::EXITINFO2)), "\n");
    return 4;
  }
  if (!svm::has_gigabyte_pages())
    note(false, "the nested page fault (RSV) of a processor without pdpe1gb");
  require(found.ram == 0x1122334455667788 && in_ram == ~found.ram, "L2 reads and writes RAM", 5);
  require(found.screen == 0x0731 && mmio_read<uint16_t>(kScreen) == 0x0731,
          "the screen at b8000h: what L2 writes, L2 and L1 read", 6);
  require(found.lapic_version == lapic_read(spec::VERSION), "L2 reads the LAPIC at fee00030h", 7);
  for (uint64_t i = 0; i < kVoids; ++i) {
    print(found.nothing[i] == ~0ull ? "ok      " : "FAILED  ", "where nothing is, at ",
          hex(kVoid[i]), ", L2 reads ", hex(found.nothing[i]), "\n");
    if (found.nothing[i] != ~0ull) return 8;
  }
  svm::turn_off();
  return 0;
}
