// Turns on PAE paging: the low 2 MiB by one 2 MiB page, C0000000h by a page table of 4 KiB pages.
// Checks an alias and ends with 0, with paging still on. (Where KVM has no paging outside of long
// mode, as kvm_pvm, setting CR0.PG is #GP and the guest triple-faults.)
#include "guest-tests/guests/guest.h"

namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kLarge = 0x80;
constexpr uintptr_t kAlias = 0xc0000000;

alignas(32) uint64_t page_directory_pointers[4];
alignas(4096) uint64_t low_directory[512];
alignas(4096) uint64_t high_directory[512];
alignas(4096) uint64_t page_table[512];
alignas(4096) volatile uint32_t shown_twice[1024];

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::require((guest::cpuid(1).edx & (1u << 6)) != 0, "the CPU has PAE", 1);
  // A PDPTE of PAE paging has no writable bit: bits 1 and 2 are reserved.
  page_directory_pointers[0] = reinterpret_cast<uintptr_t>(low_directory) | kPresent;
  page_directory_pointers[kAlias >> 30] = reinterpret_cast<uintptr_t>(high_directory) | kPresent;
  low_directory[0] = kLarge | kWritable | kPresent;
  high_directory[0] = reinterpret_cast<uintptr_t>(page_table) | kWritable | kPresent;
  page_table[5] = reinterpret_cast<uintptr_t>(shown_twice) | kWritable | kPresent;
  guest::write_cr4(guest::read_cr4() | 0x20);  // PAE
  guest::write_cr3(reinterpret_cast<uintptr_t>(page_directory_pointers));
  guest::write_cr0(guest::read_cr0() | 0x80010000);  // PG, WP
  guest::require((guest::read_cr0() & 0x80000000) != 0, "paging is on", 2);
  shown_twice[7] = 0x1234;
  guest::require(guest::mmio_read<uint32_t>(kAlias + 5 * 4096 + 28) == 0x1234, "the alias reads",
                 3);
  guest::mmio_write<uint32_t>(kAlias + 5 * 4096 + 28, 0x4321);
  guest::require(shown_twice[7] == 0x4321, "the alias writes", 4);
  guest::require((page_table[5] & 0x60) == 0x60, "accessed and dirty are set", 5);
  return 0;
}
