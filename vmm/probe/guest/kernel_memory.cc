// Exercises of ring 0: paging and what guards pages.
#include "vmm/probe/guest/guest.h"

namespace probe {
namespace {

using namespace spec;

constexpr uint64_t kPage = PTE_P | PTE_W;

// The start of user_area, mapped as an exercise wants it.
uint64_t area() { return reinterpret_cast<uint64_t>(user_area); }

uint64_t read_at(uint64_t address) { return *reinterpret_cast<volatile uint64_t*>(address); }

uint64_t call_at(uint64_t address) {
  reinterpret_cast<void (*)()>(address)();
  return 0;
}

// Faults for the caller if the bits cannot be set.
void switch_on(uint64_t cr4_bits) { write_cr4(read_cr4() | cr4_bits); }

USER_CODE uint64_t user_returns() { return 1; }

USER_CODE uint64_t read_sgdt() {
  asm volatile("sgdt (%0)" : : "r"(user_area) : "memory");
  return 1;
}

USER_CODE uint64_t move_fs_base() {
  uint64_t value = 0x1234;
  asm volatile("wrfsbase %0\n\trdfsbase %0" : "+r"(value));
  return value;
}

// PKRU is written in ring 3, since ring 0 may be emulated without that.
inline void write_pkru(uint32_t value) {
  asm volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}
USER_CODE uint64_t open_pkru() {
  write_pkru(0);
  return 1;
}
USER_CODE uint64_t read_with_open_key() {
  write_pkru(0);
  return *reinterpret_cast<volatile uint64_t*>(kTestPage);
}
USER_CODE uint64_t read_with_closed_key() {
  write_pkru(1 << 2);
  return *reinterpret_cast<volatile uint64_t*>(kTestPage);
}

USER_CODE uint64_t enter_kernel() {
  asm volatile("syscall" : : : "rcx", "r11", "memory");
  return 0;
}

void invalidate(uint64_t type) {
  static const uint64_t descriptor[2] = {0, 0};
  asm volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}

}  // namespace

uint64_t exercise_nx() {
  user_area[0] = 0xc3;  // ret
  wrmsr(EFER, rdmsr(EFER) | EFER_NXE);
  map_test_page(area() | kPage);
  if (guarded(call_at, kTestPage).faulted()) return kWrong;
  map_test_page(area() | kPage | PTE_NX);
  if (guarded(read_at, kTestPage).faulted()) return with_detail(kWrong, 1);
  return works_if(guarded(call_at, kTestPage).page_fault(PF_P | PF_ID));
}

// Without the feature PS is a reserved bit of a PDPTE.
uint64_t exercise_pdpe1gb() {
  map_gig_page();
  const Ending ending = guarded(read_at, kGigPage + vmm::probe::kMailboxAddress);
  if (ending.faulted())
    return ending.page_fault(PF_P | PF_RSVD) ? kRefused : with_detail(kWrong, ending.vector);
  return works_if(static_cast<uint32_t>(ending.result) == vmm::probe::kMailboxMagic);
}

// CR4.PCIDE wants CR3 to begin with PCID 0; MOV to CR3 then takes another.
uint64_t exercise_pcid() {
  switch_on(CR4_PCIDE);
  const uint64_t cr3 = read_cr3();
  const bool taken =
      !guarded([](uint64_t value) -> uint64_t { return write_cr3(value), 0; }, cr3 | 1).faulted();
  const bool seen = (read_cr3() & 0xfff) == 1;
  write_cr3(cr3);
  return works_if(taken && seen);
}

// Type 2 needs no CR4.PCIDE: all contexts, globals too.
uint64_t exercise_invpcid() {
  invalidate(2);
  return kWorks;
}

uint64_t exercise_smep() {
  switch_on(CR4_SMEP);
  const auto entry = reinterpret_cast<uint64_t>(user_returns);
  return works_if(guarded(call_at, entry).page_fault(PF_P | PF_ID));
}

uint64_t exercise_smap() {
  switch_on(CR4_SMAP);
  if (!guarded(read_at, area()).page_fault(PF_P)) return kWrong;
  const Ending allowed = guarded(
      [](uint64_t address) -> uint64_t {
        asm volatile("stac" : : : "memory", "cc");
        read_at(address);
        asm volatile("clac" : : : "memory", "cc");
        return 0;
      },
      area());
  return works_if(!allowed.faulted());
}

uint64_t exercise_umip() {
  switch_on(CR4_UMIP);
  return works_if(guarded_user(read_sgdt).vector == kGp);
}

// A page of key 1, to which PKRU denies access.
uint64_t exercise_pku() {
  switch_on(CR4_PKE);
  map_test_page(area() | kPage | PTE_U | uint64_t{1} << PTE_PKEY);
  const Ending open = guarded_user(read_with_open_key);
  const Ending closed = guarded_user(read_with_closed_key);
  guarded_user(open_pkru);
  const bool works = !open.faulted() && closed.page_fault(PF_P | PF_PK);
  return with_detail(works_if(works), open.faulted() ? open.vector : closed.vector);
}

uint64_t exercise_pks() {
  constexpr uint32_t kIa32Pkrs = 0x6e1;
  switch_on(CR4_PKS);
  map_test_page(area() | kPage | uint64_t{1} << PTE_PKEY);
  wrmsr(kIa32Pkrs, 1 << 2);
  const bool closed = guarded(read_at, kTestPage).page_fault(PF_P | PF_PK);
  wrmsr(kIa32Pkrs, 0);
  return works_if(closed);
}

// Ring 3, since ring 0 may be emulated without these instructions.
uint64_t exercise_fsgsbase() {
  switch_on(CR4_FSGSBASE);
  const Ending ending = guarded_user(move_fs_base);
  return ending.faulted() ? with_detail(kWrong, ending.vector) : works_if(ending.result == 0x1234);
}

// Ring 3 arrives where IA32_LSTAR says.
uint64_t exercise_syscall() {
  constexpr uint32_t kStar = 0xc0000081, kLstar = 0xc0000082, kFmask = 0xc0000084;
  wrmsr(EFER, rdmsr(EFER) | EFER_SCE);
  wrmsr(kStar, uint64_t{0x13} << 48 | uint64_t{0x08} << 32);
  wrmsr(kLstar, reinterpret_cast<uint64_t>(syscall_entry));
  wrmsr(kFmask, 0x200);
  const uint32_t vector = guarded_user(enter_kernel).vector;
  return with_detail(works_if(vector == vmm::probe::kSyscallVector), vector);
}

// The switch alone: an address with a tag would need KVM's own walker to know it too.
uint64_t exercise_lam() {
  switch_on(CR4_LAM_SUP);
  return works_if((read_cr4() & CR4_LAM_SUP) != 0);
}

}  // namespace probe
