// Turns on 32-bit paging: the low 4 MiB by one 4 MiB page (PSE), 80000000h by a page table of 4 KiB
// pages. Checks an alias and ends with 0, with paging still on. (Where KVM has no paging outside of
// long mode, as kvm_pvm, setting CR0.PG is #GP and the guest triple-faults.)
#include "guest-tests/guests/guest.h"

namespace {

constexpr uint32_t kPresent = 1, kWritable = 2, kLarge = 0x80;
constexpr uintptr_t kAlias = 0x80000000;

alignas(4096) uint32_t page_directory[1024];
alignas(4096) uint32_t page_table[1024];
alignas(4096) volatile uint32_t shown_twice[1024];

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  guest::require((guest::cpuid(1).edx & (1u << 3)) != 0, "the CPU has PSE", 1);
  page_directory[0] = kLarge | kWritable | kPresent;
  page_directory[kAlias >> 22] = reinterpret_cast<uintptr_t>(page_table) | kWritable | kPresent;
  page_table[5] = reinterpret_cast<uintptr_t>(shown_twice) | kWritable | kPresent;
  guest::write_cr4(guest::read_cr4() | 0x10);  // PSE
  guest::write_cr3(reinterpret_cast<uintptr_t>(page_directory));
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
