// Maps the first 32 GiB of physical memory to themselves with 1 GiB pages, as many kernels do for
// their direct map, and then writes to the screen. It never asks the CPU whether such pages exist.
#include "guest-tests/guests/guest.h"

using guest::decimal;
using guest::hex;
using guest::print;

namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kPageSize = 0x80;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr unsigned kPages = 32;
constexpr uintptr_t kScreen = 0xb8000;

alignas(4096) uint64_t pml4[512];
alignas(4096) uint64_t pdpt[512];

}  // namespace

// Unmangled, so that a crash report shows the plain names.
extern "C" {

[[gnu::noinline]] void map_with_1gib_pages() {
  for (unsigned i = 0; i < kPages; ++i) pdpt[i] = i * kGiB | kPageSize | kWritable | kPresent;
  pml4[0] = reinterpret_cast<uint64_t>(pdpt) | kWritable | kPresent;
}

[[gnu::noinline]] void load_cr3() { guest::write_cr3(reinterpret_cast<uint64_t>(pml4)); }

[[gnu::noinline]] void write_to_vga(const char* text) {
  uintptr_t cell = kScreen;
  for (; *text != '\0'; ++text, cell += 2)
    guest::mmio_write<uint16_t>(cell, static_cast<uint16_t>(0x2f00 | static_cast<uint8_t>(*text)));
}

}  // extern "C"

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  print("one-gig-pages: a direct map of ", decimal(kPages), " GiB with 1 GiB pages\n");
  map_with_1gib_pages();
  print("one-gig-pages: PML4E 0 at ", hex(reinterpret_cast<uint64_t>(pml4)), " is ", hex(pml4[0]),
        "\n");
  print("one-gig-pages: PDPTE 0 at ", hex(reinterpret_cast<uint64_t>(pdpt)), " is ", hex(pdpt[0]),
        ", PDPTE ", decimal(kPages - 1), " is ", hex(pdpt[kPages - 1]), "\n");
  print("one-gig-pages: loading CR3\n");
  load_cr3();
  print("one-gig-pages: writing to the screen at b8000h\n");
  write_to_vga("1 GiB pages work here");
  print("one-gig-pages: done, 1 GiB pages work here\n");
  return 0;
}
