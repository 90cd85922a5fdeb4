// Checks what the loader promises an ELF64 kernel; ends with 0, or the number of the claim that
// does not hold.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/idt.h"

using guest::require;

extern "C" {
extern const uint64_t entry_rflags, entry_rsp;
extern const guest::TableRegister entry_idt, entry_gdt;
extern const uint16_t entry_cs;
}

// The 2 MiB page that maps `address` by the live tables, or 0.
static uint64_t find_2mib_pde(uint64_t address) {
  constexpr uint64_t kAddress = 0x000ffffffffff000;
  auto entry = [](uint64_t table, uint64_t index) {
    return *reinterpret_cast<const uint64_t*>((table & kAddress) + (index & 511) * 8);
  };
  const uint64_t pml4e = entry(guest::read_cr3(), address >> 39);
  if ((pml4e & 1) == 0) return 0;
  const uint64_t pdpte = entry(pml4e, address >> 30);
  if ((pdpte & 0x81) != 1) return 0;
  const uint64_t pde = entry(pdpte, address >> 21);
  return (pde & 0x81) == 0x81 ? pde : 0;
}

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  const uint64_t cr0 = guest::read_cr0();
  const uint64_t efer = guest::rdmsr(0xc0000080);
  guest::print("CR0 ", guest::hex(cr0), ", CR3 ", guest::hex(guest::read_cr3()), ", CR4 ",
               guest::hex(guest::read_cr4()), ", EFER ", guest::hex(efer), ", RSP ",
               guest::hex(entry_rsp), "\n");
  require((cr0 & 0x80000001) == 0x80000001, "CR0.PE and CR0.PG", 1);
  require((guest::read_cr4() & 0x20) != 0, "CR4.PAE", 2);
  require((efer & 0x500) == 0x500, "EFER.LME and LMA", 3);
  require((entry_rflags & 0x200) == 0, "interrupts off", 4);
  require((entry_rflags & 0x400) == 0, "direction flag clear", 5);
  require((entry_rflags & 0x100) == 0, "trap flag clear", 11);
  require(entry_idt.limit == 0, "IDT limit 0: the first fault is a triple fault", 6);
  require(entry_gdt.limit >= 15 && (entry_cs & ~7u) + 7 <= entry_gdt.limit, "CS inside the GDT", 7);
  const uint64_t code = *reinterpret_cast<const uint64_t*>(entry_gdt.base + (entry_cs & ~7u));
  require(((code >> 53) & 1) != 0, "the code descriptor in the GDT has L", 8);
  bool identity = true;
  for (uint64_t page = 0; page < 8; ++page) {
    // The first and the last page of each GiB.
    const uint64_t address = page / 2 << 30 | (page % 2) * 0x3fe00000;
    identity = identity && (find_2mib_pde(address) & 0x000fffffffe00003) == (address | 3);
  }
  require(identity, "the low 4 GiB are identity-mapped by 2 MiB pages, writable", 9);
  require(find_2mib_pde(uint64_t{4} << 30) == 0, "nothing is mapped above", 10);
  return 0;
}
