// Guests' CPUIDs, and a vCPU in 64-bit code, for the tests of the register layer.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "vmm/base/bytes.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/debug_registers.h"
#include "vmm/gdb/registers.h"

namespace vmm::gdb {

// A long-mode CPU with XSAVE of x87 and SSE, SYSCALL, and no more.
inline CpuidTable plain_cpuid() {
  CpuidTable cpuid;
  cpuid.at(1).ecx = 1u << 26;
  cpuid.at(0xd, 0) = {.eax = 3, .ebx = 576, .ecx = 576};
  cpuid.at(0x80000001).edx = 1u << 29 | 1u << 11;
  cpuid.at(0x80000008).eax = 40;
  return cpuid;
}

inline CpuidTable avx_cpuid() {
  CpuidTable cpuid = plain_cpuid();
  cpuid.at(1).ecx |= 1u << 28;
  cpuid.at(0xd, 0).eax |= 4;
  cpuid.at(0xd, 2) = {.eax = 256, .ebx = 576};
  return cpuid;
}

// AVX-512 at the places that Intel's silicon uses, and everything for which there is an MSR.
inline CpuidTable full_cpuid() {
  CpuidTable cpuid = avx_cpuid();
  cpuid.at(7).ebx |= 1u << 16;
  cpuid.at(0xd, 0).eax |= 0xe0;
  cpuid.at(0xd, 5) = {.eax = 64, .ebx = 1088};
  cpuid.at(0xd, 6) = {.eax = 512, .ebx = 1152};
  cpuid.at(0xd, 7) = {.eax = 1024, .ebx = 1664};
  cpuid.at(1).ecx |= 1u << 5;
  cpuid.at(1).edx |= 1u << 9 | 1u << 11 | 1u << 12 | 1u << 16;
  cpuid.at(7).edx |= 1u << 26;
  cpuid.at(0xd, 1).eax |= 1u << 3;
  cpuid.at(0x80000001).edx |= 1u << 27;
  cpuid.at(0x80000001).ecx |= 1u << 2;
  return cpuid;
}

// `components` is XSTATE_BV.
inline std::vector<std::uint8_t> xsave_area(std::size_t size, std::uint64_t components) {
  std::vector<std::uint8_t> area(size);
  store(std::span(area), 512, components);
  return area;
}

// All components of full_cpuid() are in use.
inline DebugRegisters long_mode_registers() {
  DebugRegisters r;
  kvm_sregs& s = r.cpu.sregs;
  s.cr0 = spec::CR0_PG | spec::CR0_ET | spec::CR0_PE;
  s.cr4 = spec::CR4_PAE;
  s.efer = spec::EFER_LME | spec::EFER_LMA;
  for (kvm_segment* segment : {&s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs, &s.ldt, &s.tr}) {
    segment->limit = 0xffffffff;
    segment->present = 1;
    segment->g = 1;
  }
  s.cs.l = 1;
  r.cpu.regs.rflags = spec::RFLAGS_FIXED;
  r.cpu.debugregs.dr6 = 0xffff0ff0;
  r.cpu.debugregs.dr7 = 0x400;
  r.xcr0 = 0xe7;
  r.xsave = xsave_area(4096, 0xe7);
  store(std::span(r.xsave), 24, std::uint32_t{0x1f80});
  return r;
}

// A register that is there.
inline const Register& named(const RegisterSet& set, std::string_view name) {
  const Register* r = set.find(name);
  if (r == nullptr) throw std::out_of_range(std::string(name));
  return *r;
}
// `value` in `size` bytes; the rest of a wider register is zero.
inline std::vector<std::uint8_t> bytes_of(std::uint64_t value, std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  store_uint(std::span(bytes).first(std::min<std::size_t>(size, 8)), value);
  return bytes;
}

}  // namespace vmm::gdb
