// The probe's own page tables: the low 1 GiB one to one, of which ring 3 may use its section only,
// and two places for exercises.
#include "vmm/probe/guest/guest.h"

extern "C" std::uint8_t user_begin[], user_end[];  // guest.ld

namespace probe {
namespace {

struct alignas(4096) Table {
  uint64_t entry[512];
};

Table page_map, low_pointers, low_directory, low_pages, apic_directory, test_pointers,
    test_directory, test_pages, gig_pointers;

uint64_t to(const Table& table) {
  return reinterpret_cast<uint64_t>(&table) | spec::PTE_P | spec::PTE_W | spec::PTE_U;
}

}  // namespace

void flush_tlb() { write_cr3(read_cr3()); }

void start_paging() {
  using namespace spec;
  page_map.entry[0] = to(low_pointers);
  page_map.entry[1] = to(test_pointers);
  page_map.entry[2] = to(gig_pointers);
  low_pointers.entry[0] = to(low_directory);
  low_pointers.entry[3] = to(apic_directory);
  low_directory.entry[0] = to(low_pages);
  for (uint64_t i = 1; i < 512; ++i) low_directory.entry[i] = i << 21 | PTE_P | PTE_W | PTE_PS;
  for (uint64_t i = 0; i < 512; ++i) low_pages.entry[i] = i << 12 | PTE_P | PTE_W;
  const uint64_t first = reinterpret_cast<uint64_t>(user_begin) >> 12;
  const uint64_t last = reinterpret_cast<uint64_t>(user_end) >> 12;
  for (uint64_t i = first; i < last; ++i) low_pages.entry[i] |= PTE_U;
  apic_directory.entry[0xfee00000 >> 21 & 511] = 0xfee00000 | PTE_P | PTE_W | PTE_PCD | PTE_PS;
  test_pointers.entry[0] = to(test_directory);
  test_directory.entry[0] = to(test_pages);
  write_cr3(reinterpret_cast<uint64_t>(&page_map));
}

void map_test_page(uint64_t entry) {
  test_pages.entry[0] = entry;
  flush_tlb();
}

void map_gig_page() {
  gig_pointers.entry[0] = spec::PTE_P | spec::PTE_W | spec::PTE_PS;
  flush_tlb();
}

}  // namespace probe
