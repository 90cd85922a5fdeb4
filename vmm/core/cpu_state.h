// All of a vCPU that explanations, loaders and debuggers look at, as one value. The uapi structs
// are a stable ABI and serve as plain values; the ioctls stay in vmm/kvm.
#pragma once

#include <cstdint>

#include "vmm/core/uapi.h"

namespace vmm {

struct CpuState {
  kvm_regs regs{};
  kvm_sregs sregs{};
  kvm_debugregs debugregs{};
  kvm_vcpu_events events{};
  std::uint32_t mp_state = KVM_MP_STATE_RUNNABLE;
};

// Register bits, named as in the SDM.
namespace spec {
constexpr std::uint64_t CR0_PE = 1ull << 0;
constexpr std::uint64_t CR0_ET = 1ull << 4;
constexpr std::uint64_t CR0_NE = 1ull << 5;
constexpr std::uint64_t CR0_WP = 1ull << 16;
constexpr std::uint64_t CR0_AM = 1ull << 18;
constexpr std::uint64_t CR0_NW = 1ull << 29;
constexpr std::uint64_t CR0_CD = 1ull << 30;
constexpr std::uint64_t CR0_PG = 1ull << 31;
constexpr std::uint64_t CR4_PSE = 1ull << 4;
constexpr std::uint64_t CR4_PAE = 1ull << 5;
constexpr std::uint64_t CR4_MCE = 1ull << 6;
constexpr std::uint64_t CR4_PGE = 1ull << 7;
constexpr std::uint64_t CR4_OSFXSR = 1ull << 9;
constexpr std::uint64_t CR4_OSXMMEXCPT = 1ull << 10;
constexpr std::uint64_t CR4_UMIP = 1ull << 11;
constexpr std::uint64_t CR4_LA57 = 1ull << 12;
constexpr std::uint64_t CR4_VMXE = 1ull << 13;
constexpr std::uint64_t CR4_FSGSBASE = 1ull << 16;
constexpr std::uint64_t CR4_PCIDE = 1ull << 17;
constexpr std::uint64_t CR4_OSXSAVE = 1ull << 18;
constexpr std::uint64_t CR4_SMEP = 1ull << 20;
constexpr std::uint64_t CR4_SMAP = 1ull << 21;
constexpr std::uint64_t CR4_PKE = 1ull << 22;
constexpr std::uint64_t CR4_CET = 1ull << 23;
constexpr std::uint64_t CR4_PKS = 1ull << 24;
constexpr std::uint64_t EFER_SCE = 1ull << 0;
constexpr std::uint64_t EFER_LME = 1ull << 8;
constexpr std::uint64_t EFER_LMA = 1ull << 10;
constexpr std::uint64_t EFER_NXE = 1ull << 11;
constexpr std::uint64_t EFER_SVME = 1ull << 12;
constexpr std::uint64_t RFLAGS_FIXED = 1ull << 1;  // always set
constexpr std::uint64_t RFLAGS_TF = 1ull << 8;
constexpr std::uint64_t RFLAGS_IF = 1ull << 9;
constexpr std::uint64_t RFLAGS_VM = 1ull << 17;
constexpr std::uint64_t RFLAGS_AC = 1ull << 18;
}  // namespace spec

// The mode in which instructions are decoded at this moment.
enum class CpuMode { Real, Protected16, Protected32, Compat16, Compat32, Long64 };

inline CpuMode cpu_mode(const kvm_sregs& s) {
  if ((s.cr0 & spec::CR0_PE) == 0) return CpuMode::Real;
  const bool long_mode = (s.efer & spec::EFER_LMA) != 0;
  if (long_mode && s.cs.l != 0) return CpuMode::Long64;
  if (s.cs.db != 0) return long_mode ? CpuMode::Compat32 : CpuMode::Protected32;
  return long_mode ? CpuMode::Compat16 : CpuMode::Protected16;
}

}  // namespace vmm
