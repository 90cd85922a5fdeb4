// Builds 4-level tables of its own with 2 MiB and 4 KiB pages, loads them, checks an alias in the
// upper half and ends with 0, with these tables live.
#include "guest-tests/guests/guest.h"

namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80, kGlobal = 0x100;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uintptr_t kAlias = 0xffff800000000000;

alignas(4096) uint64_t pml4[512];
alignas(4096) uint64_t low_pdpt[512];
alignas(4096) uint64_t low_directory[512];
alignas(4096) uint64_t high_pdpt[512];
alignas(4096) uint64_t high_directory[512];
alignas(4096) uint64_t page_table[512];
alignas(4096) volatile uint32_t shown_twice[1024];

uint64_t address_of(const volatile void* object) { return reinterpret_cast<uint64_t>(object); }

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  const bool nx = (guest::cpuid(0x80000001).edx & (1u << 20)) != 0;
  if (nx) guest::wrmsr(0xc0000080, guest::rdmsr(0xc0000080) | 0x800);  // EFER.NXE
  pml4[0] = address_of(low_pdpt) | kWritable | kPresent;
  low_pdpt[0] = address_of(low_directory) | kWritable | kPresent;
  for (uint64_t i = 0; i < 2; ++i) low_directory[i] = i << 21 | kLarge | kWritable | kPresent;
  pml4[256] = address_of(high_pdpt) | kUser | kWritable | kPresent;
  high_pdpt[0] = address_of(high_directory) | kUser | kWritable | kPresent;
  high_directory[0] = address_of(page_table) | kUser | kWritable | kPresent;
  page_table[5] = address_of(shown_twice) | kUser | kWritable | kPresent | (nx ? kNoExecute : 0);
  high_directory[1] = 0 | kGlobal | kLarge | kPresent;  // 0 again, read-only
  guest::write_cr3(address_of(pml4));
  shown_twice[7] = 0x1234;
  guest::require(guest::mmio_read<uint32_t>(kAlias + 5 * 4096 + 28) == 0x1234, "the alias reads",
                 1);
  guest::mmio_write<uint32_t>(kAlias + 5 * 4096 + 28, 0x4321);
  guest::require(shown_twice[7] == 0x4321, "the alias writes", 2);
  guest::require((page_table[5] & 0x60) == 0x60, "accessed and dirty are set", 3);
  const uint64_t here = address_of(pml4);
  guest::require(guest::mmio_read<uint64_t>(kAlias + 0x200000 + here) == pml4[0],
                 "the 2 MiB alias reads", 4);
  guest::require((high_directory[1] & 0x60) == 0x20, "it is accessed, not dirty", 5);
  return 0;
}
