// Exercises of ring 0: switches in CR4, EFER and MSRs.
#include "vmm/probe/guest/guest.h"

namespace probe {
namespace {

using namespace spec;

// The switch takes and stays; a fault goes to the caller's guard.
uint64_t cr4_switch(uint64_t bit) {
  write_cr4(read_cr4() | bit);
  return works_if((read_cr4() & bit) != 0);
}

uint64_t efer_switch(uint64_t bit) {
  wrmsr(EFER, rdmsr(EFER) | bit);
  return works_if((rdmsr(EFER) & bit) != 0);
}

// The MSR takes `value`, gives it back, and gets its own again.
uint64_t msr_keeps(uint32_t index, uint64_t value) {
  const uint64_t old = rdmsr(index);
  wrmsr(index, value);
  const bool kept = rdmsr(index) == value;
  wrmsr(index, old);
  return works_if(kept);
}

uint64_t msr_reads(uint32_t index) {
  rdmsr(index);
  return kWorks;
}

uint64_t msr_writes(uint32_t index, uint64_t value) {
  wrmsr(index, value);
  return kWorks;
}

uint64_t all_components() {
  const CpuidRegs r = cpuid(0xd, 0);
  return uint64_t{r.edx} << 32 | r.eax;
}

void write_xcr0(uint64_t value) {
  asm volatile("xsetbv"
               :
               : "a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32)), "c"(0)
               : "memory");
}

// XCR0, after x87 and SSE went to memory and back.
USER_CODE uint64_t save_and_restore() {
  uint32_t low, high;
  asm volatile("xsave (%2)\n\txrstor (%2)\n\txgetbv"
               : "=a"(low), "=d"(high)
               : "r"(user_area), "0"(3), "1"(0), "c"(0)
               : "memory");
  return uint64_t{high} << 32 | low;
}

constexpr uint32_t kSpecCtrl = 0x48, kPredCmd = 0x49, kApicBase = 0x1b, kTscDeadline = 0x6e0;
constexpr uint64_t kIbrs = 1, kStibp = 2, kSsbd = 4;
constexpr uint64_t kX2apicMode = 1 << 10, kApicOn = 1 << 11;

uint32_t apic_read(uint32_t offset) {
  return *reinterpret_cast<volatile uint32_t*>(uintptr_t{0xfee00000} + offset);
}
void apic_write(uint32_t offset, uint32_t value) {
  asm volatile("mov %1, %0"
               : "=m"(*reinterpret_cast<volatile uint32_t*>(uintptr_t{0xfee00000} + offset))
               : "r"(value));
}

}  // namespace

bool try_wrmsr(uint32_t index, uint64_t value) {
  static uint64_t wanted;
  wanted = value;
  const Ending ending = guarded(
      [](uint64_t i) -> uint64_t { return wrmsr(static_cast<uint32_t>(i), wanted), 0; }, index);
  return !ending.faulted();
}

uint64_t exercise_lm() { return works_if((rdmsr(EFER) & EFER_LMA) != 0); }
uint64_t exercise_pae() { return works_if((read_cr4() & 0x20) != 0); }
uint64_t exercise_msr() { return works_if((rdmsr(EFER) & EFER_LMA) != 0); }
uint64_t exercise_vme() { return cr4_switch(CR4_VME); }
uint64_t exercise_pse() { return cr4_switch(CR4_PSE); }
uint64_t exercise_mce() { return cr4_switch(CR4_MCE); }
uint64_t exercise_pge() { return cr4_switch(CR4_PGE); }
uint64_t exercise_smx() { return cr4_switch(CR4_SMXE); }
uint64_t exercise_fred() { return cr4_switch(CR4_FRED); }
uint64_t exercise_fxsr_opt() { return efer_switch(EFER_FFXSR); }
uint64_t exercise_tce() { return efer_switch(EFER_TCE); }
uint64_t exercise_auto_ibrs() { return efer_switch(EFER_AUTOIBRS); }

// With CR4.DE DR4 is no other name of DR6.
uint64_t exercise_de() {
  write_cr4(read_cr4() | CR4_DE);
  const Ending ending = guarded([](uint64_t) -> uint64_t {
    uint64_t value;
    asm volatile("mov %%dr4, %0" : "=r"(value));
    return value;
  });
  return works_if(ending.vector == kUd);
}

uint64_t exercise_mca() { return msr_reads(0x179); }  // IA32_MCG_CAP
uint64_t exercise_mtrr() { return msr_reads(0xfe); }  // IA32_MTRRCAP
uint64_t exercise_pat() { return msr_keeps(0x277, 0x0007040600070400); }
uint64_t exercise_sep() { return msr_keeps(0x175, 0x1000); }  // IA32_SYSENTER_ESP
uint64_t exercise_tsc_adjust() { return msr_keeps(0x3b, 0x1000); }

// The version register: at least 10h is a LAPIC on the chip.
uint64_t exercise_apic() { return works_if((apic_read(0x30) & 0xf0) == 0x10); }

// On, an id in its MSR, and back by way of off.
uint64_t exercise_x2apic() {
  const uint64_t base = rdmsr(kApicBase);
  wrmsr(kApicBase, base | kX2apicMode);
  uint64_t id = 0;
  const bool read = try_rdmsr(0x802, id);
  wrmsr(kApicBase, base & ~(kX2apicMode | kApicOn));
  wrmsr(kApicBase, base);
  return works_if(read);
}

// LVT timer in mode 10b, masked; the deadline far off reads back as long as it is armed.
uint64_t exercise_tsc_deadline() {
  constexpr uint32_t kLvtTimer = 0x320, kSvr = 0xf0;
  const uint32_t svr = apic_read(kSvr);
  apic_write(kSvr, 0x1ff);
  const uint32_t lvt = apic_read(kLvtTimer);
  apic_write(kLvtTimer, 0x50020);
  uint64_t armed = 0;
  bool works = (apic_read(kLvtTimer) & 0x60000) == 0x40000;
  if (works) {
    constexpr uint64_t kFar = uint64_t{1} << 60;
    works = try_wrmsr(kTscDeadline, kFar) && try_rdmsr(kTscDeadline, armed) && armed == kFar;
    try_wrmsr(kTscDeadline, 0);
  }
  apic_write(kLvtTimer, lvt);
  apic_write(kSvr, svr);
  return works_if(works);
}

// A store to the line that MONITOR watches lets MWAIT go on at once.
uint64_t exercise_monitor() {
  static volatile uint64_t line;
  asm volatile("monitor" : : "a"(&line), "c"(0), "d"(0) : "memory");
  line = 1;
  asm volatile("mwait" : : "a"(0), "c"(0) : "memory");
  return kWorks;
}

// XSAVES writes the compacted form, with components of IA32_XSS too.
uint64_t exercise_xsaves() {
  alignas(64) static uint8_t area[4096];
  constexpr uint32_t kIa32Xss = 0xda0;
  asm volatile("xsaves (%0)" : : "r"(area), "a"(7), "d"(0) : "memory");
  asm volatile("xrstors (%0)" : : "r"(area), "a"(7), "d"(0) : "memory");
  rdmsr(kIa32Xss);
  return works_if(*reinterpret_cast<volatile uint64_t*>(area + 520) >> 63 == 1);
}

uint64_t exercise_xfd() { return msr_reads(0x1c4); }

uint64_t exercise_lkgs() {
  asm volatile(".byte 0xf2, 0x0f, 0x00, 0xf0" : : "a"(0x10));  // lkgs %ax
  return kWorks;
}

uint64_t exercise_wrmsrns() {
  const uint64_t value = rdmsr(EFER);
  asm volatile(".byte 0x0f, 0x01, 0xc6"
               :
               : "a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32)),
                 "c"(EFER)
               : "memory");
  return kWorks;
}

// IA32_DEBUGCTL bit 2.
uint64_t exercise_bus_lock_detect() { return msr_keeps(0x1d9, 4); }

uint64_t exercise_spec_ctrl() { return msr_keeps(kSpecCtrl, kIbrs); }
uint64_t exercise_ibrs() { return msr_keeps(kSpecCtrl, kIbrs); }
uint64_t exercise_stibp() { return msr_keeps(kSpecCtrl, kStibp); }
uint64_t exercise_amd_stibp() { return msr_keeps(kSpecCtrl, kStibp); }
uint64_t exercise_ssbd() { return msr_keeps(kSpecCtrl, kSsbd); }
uint64_t exercise_amd_ssbd() { return msr_keeps(kSpecCtrl, kSsbd); }
uint64_t exercise_ibpb() { return msr_writes(kPredCmd, 1); }
uint64_t exercise_virt_ssbd() { return msr_keeps(0xc001011f, kSsbd); }
uint64_t exercise_flush_l1d() { return msr_writes(0x10b, 1); }
uint64_t exercise_arch_capabilities() { return msr_reads(0x10a); }
uint64_t exercise_core_capability() { return msr_reads(0xcf); }
uint64_t exercise_pdcm() { return msr_reads(0x345); }
uint64_t exercise_tsx_ctrl() { return msr_keeps(0x122, 0); }
uint64_t exercise_arch_lbr() { return msr_reads(0x14ce); }  // IA32_LBR_CTL
uint64_t exercise_osvw() { return msr_reads(0xc0010140); }
uint64_t exercise_perfctr_core() { return msr_reads(0xc001020a); }  // PERF_CTL5
uint64_t exercise_perfmon_v2() { return msr_reads(0xc0000301); }    // PerfCntrGlobalCtl

uint64_t exercise_kvmclock() { return msr_writes(0x4b564d01, 0); }
uint64_t exercise_kvm_asyncpf() { return msr_writes(0x4b564d02, 0); }
uint64_t exercise_kvm_steal_time() { return msr_writes(0x4b564d03, 0); }
uint64_t exercise_kvm_pv_eoi() { return msr_writes(0x4b564d04, 0); }
uint64_t exercise_kvm_poll_control() { return msr_keeps(0x4b564d05, 1); }
uint64_t exercise_kvm_asyncpf_int() { return msr_writes(0x4b564d06, 0); }

// XCR0 keeps every component that CPUID names, also over a CPUID, which makes KVM load XCR0 anew.
uint64_t exercise_xsave() {
  const uint64_t components = all_components();
  write_xcr0(components);
  cpuid(0);
  const Ending ending = guarded_user(save_and_restore);
  if (ending.faulted()) return with_detail(kWrong, ending.vector);
  return with_detail(works_if(ending.result == components), static_cast<uint32_t>(ending.result));
}

// SSE as every system has it, and XCR0 in full.
void setup_vectors() {
  write_cr0((read_cr0() & ~uint64_t{0xc}) | 2);  // EM and TS off, MP on
  try_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
  if ((cpuid(1).ecx & 1 << 26) == 0 || !try_cr4(read_cr4() | CR4_OSXSAVE)) return;
  guarded([](uint64_t components) -> uint64_t { return write_xcr0(components), 0; },
          all_components());
}

}  // namespace probe
