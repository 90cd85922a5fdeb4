// What the probe's kernel is made of: registers, page tables, and guards against faults.
// Header-only but for what start.S, paging.cc and the exercises have; general registers only, no
// library.
#pragma once

#include <cstdint>

#include "vmm/probe/exercises.h"
#include "vmm/probe/protocol.h"

// In pages that ring 3 may run and touch. A function there calls nothing outside them.
#define USER_CODE [[gnu::section(".user.text"), gnu::noinline]]

extern "C" {
std::uint64_t guard_kernel(std::uint64_t (*function)(std::uint64_t), std::uint64_t argument);
std::uint64_t guard_user(std::uint64_t (*function)());
void syscall_entry();
extern std::uint32_t trap_vector;
extern std::uint64_t trap_error, trap_rip, trap_cr2;
extern std::uint8_t user_area[16384];  // page-aligned, for ring 3
}

namespace probe {

using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

using vmm::probe::Answer;
using vmm::probe::kNoVector;
using vmm::probe::Question;
using vmm::probe::State;
using vmm::probe::Verdict;

namespace spec {
constexpr uint32_t kUd = 6, kGp = 13, kPf = 14;
// Error code of a page fault (SDM Vol. 3A, 4.7).
constexpr uint32_t PF_P = 1, PF_RSVD = 8, PF_ID = 16, PF_PK = 32;
constexpr uint64_t CR4_VME = 1 << 0, CR4_DE = 1 << 3, CR4_PSE = 1 << 4, CR4_MCE = 1 << 6,
                   CR4_PGE = 1 << 7, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10,
                   CR4_UMIP = 1 << 11, CR4_VMXE = 1 << 13, CR4_SMXE = 1 << 14,
                   CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18,
                   CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, CR4_PKE = 1 << 22, CR4_PKS = 1 << 24,
                   CR4_LAM_SUP = 1 << 28, CR4_FRED = uint64_t{1} << 32;
constexpr uint32_t EFER = 0xc0000080;
constexpr uint64_t EFER_SCE = 1, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11, EFER_SVME = 1 << 12,
                   EFER_FFXSR = 1 << 14, EFER_TCE = 1 << 15, EFER_AUTOIBRS = 1 << 21;
constexpr uint64_t PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PCD = 16, PTE_PS = 128,
                   PTE_NX = uint64_t{1} << 63;
constexpr unsigned PTE_PKEY = 59;  // first bit of the protection key
}  // namespace spec

struct CpuidRegs {
  uint32_t eax, ebx, ecx, edx;
};
inline CpuidRegs cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidRegs r;
  asm volatile("cpuid"
               : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
               : "a"(leaf), "c"(subleaf));
  return r;
}

inline uint64_t rdmsr(uint32_t index) {
  uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return uint64_t{high} << 32 | low;
}
inline void wrmsr(uint32_t index, uint64_t value) {
  asm volatile("wrmsr"
               :
               : "a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32)),
                 "c"(index)
               : "memory");
}

#define PROBE_CONTROL_REGISTER(name)                            \
  inline uint64_t read_##name() {                               \
    uint64_t value;                                             \
    asm volatile("mov %%" #name ", %0" : "=r"(value));          \
    return value;                                               \
  }                                                             \
  inline void write_##name(uint64_t value) {                    \
    asm volatile("mov %0, %%" #name : : "r"(value) : "memory"); \
  }
PROBE_CONTROL_REGISTER(cr0)
PROBE_CONTROL_REGISTER(cr3)
PROBE_CONTROL_REGISTER(cr4)
#undef PROBE_CONTROL_REGISTER

// How a guarded call ended: a fault, or the function's own result.
struct Ending {
  uint32_t vector;
  uint32_t error;
  uint64_t address;
  uint64_t result;

  bool faulted() const { return vector != kNoVector; }
  bool page_fault(uint32_t bits) const { return vector == spec::kPf && (error & bits) == bits; }
};
inline Ending ending_now(uint64_t result) {
  return {trap_vector, static_cast<uint32_t>(trap_error), trap_cr2, result};
}
inline Ending guarded(uint64_t (*function)(uint64_t), uint64_t argument = 0) {
  const uint64_t result = guard_kernel(function, argument);
  return ending_now(result);
}
inline Ending guarded_user(uint64_t (*function)()) {
  const uint64_t result = guard_user(function);
  return ending_now(result);
}

// Guarded register accesses: true when there was no fault.
inline bool try_cr4(uint64_t value) {
  return !guarded([](uint64_t v) -> uint64_t { return write_cr4(v), 0; }, value).faulted();
}
inline bool try_rdmsr(uint32_t index, uint64_t& value) {
  const Ending ending =
      guarded([](uint64_t i) -> uint64_t { return rdmsr(static_cast<uint32_t>(i)); }, index);
  if (!ending.faulted()) value = ending.result;
  return !ending.faulted();
}
bool try_wrmsr(uint32_t index, uint64_t value);  // kernel_registers.cc

// paging.cc: one page at kTestPage that exercises map as they please. It is not mapped at first.
constexpr uint64_t kTestPage = uint64_t{1} << 39;
constexpr uint64_t kGigPage = uint64_t{2} << 39;  // 1 GiB from address 0, by one PDPTE
void start_paging();
void map_test_page(uint64_t entry);  // the PTE, 0 for none
// The low 1 GiB at kGigPage by a PDPTE with PS.
void map_gig_page();
void flush_tlb();

// What an exercise returns: a verdict, with a word of its own above it for the answer's value[1].
constexpr uint64_t kWorks = static_cast<uint64_t>(Verdict::Works);
constexpr uint64_t kWrong = static_cast<uint64_t>(Verdict::Wrong);
constexpr uint64_t kRefused = static_cast<uint64_t>(Verdict::Refused);
constexpr uint64_t works_if(bool condition) { return condition ? kWorks : kWrong; }
constexpr uint64_t with_detail(uint64_t verdict, uint32_t detail) {
  return verdict | uint64_t{detail} << 32;
}

#define VMM_PROBE_DECLARE(name, feature, also) uint64_t exercise_##name();
VMM_PROBE_EXERCISES(VMM_PROBE_DECLARE)
#undef VMM_PROBE_DECLARE

// Each makes later exercises possible as far as the processor has it, and faults at nothing.
void setup_vectors();  // SSE, and every component of XCR0

}  // namespace probe
