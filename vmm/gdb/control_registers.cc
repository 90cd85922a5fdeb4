#include "vmm/gdb/control_registers.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"

namespace vmm::gdb {
namespace {

using namespace spec;

// PE MP EM TS ET NE WP AM NW CD PG; the others are dropped, as MOV drops them.
constexpr std::uint64_t kCr0Bits = 0xe005003f;
// SCE LME LMA NXE SVME LMSLE FFXSR TCE MCOMMIT INTWB UAIE AIBRSE.
constexpr std::uint64_t kEferBits = 0x36fd01;
// CF PF AF ZF SF TF IF DF OF IOPL NT RF VM AC VIF VIP ID, and bit 1.
constexpr std::uint64_t kRflagsBits = 0x3f7fd7;
constexpr std::uint64_t kDr6Fixed = 0xfffe07f0;
constexpr std::uint64_t kDr6BusLock = 1u << 11;
constexpr std::uint64_t kDr6Rtm = 1u << 16;
constexpr std::uint64_t kDr6Clear = 1u << 12;
constexpr std::uint64_t kDr7Fixed = 1u << 10;
constexpr std::uint64_t kDr7Rtm = 1u << 11;
constexpr std::uint64_t kDr7Clear = 0xd000;

tl::unexpected<Error> refused(std::string_view name, std::uint64_t value, std::string_view why) {
  return fail(Error::usage(fmt::format("{} cannot be {:#x}: {}", name, value, why)));
}

Result<void> write_cr0(kvm_sregs& s, std::uint64_t value) {
  const bool paging = (value & CR0_PG) != 0;
  const bool long_mode = (s.efer & EFER_LME) != 0;
  if (value >> 32 != 0) return refused("cr0", value, "bits 63:32 are reserved");
  if (paging && (value & CR0_PE) == 0) return refused("cr0", value, "PG needs PE");
  if ((value & CR0_NW) != 0 && (value & CR0_CD) == 0) return refused("cr0", value, "NW needs CD");
  if (paging && long_mode && (s.cr4 & CR4_PAE) == 0)
    return refused("cr0", value, "PG with EFER.LME needs CR4.PAE");
  if (!paging && (s.efer & EFER_LMA) != 0 && s.cs.l != 0)
    return refused("cr0", value, "64-bit code cannot go without PG");
  if (paging && long_mode && (s.efer & EFER_LMA) == 0 && s.cs.l != 0)
    return refused("cr0", value, "long mode is not entered with L set in cs_attr");
  s.cr0 = (value & kCr0Bits) | CR0_ET;
  // The processor's own doing, SDM vol. 3A 9.8.5.
  s.efer = (s.efer & ~EFER_LMA) | (paging && long_mode ? EFER_LMA : 0);
  return {};
}

Result<void> write_cr3(kvm_sregs& s, std::uint64_t value, const ControlLimits& limits) {
  // With PCIDs bit 63 belongs to MOV, not to the register.
  const unsigned width = (s.efer & EFER_LMA) != 0 ? limits.phys_bits : 32;
  if ((value & ~low_mask(width)) != 0)
    return refused("cr3", value, fmt::format("bits from {} on are reserved here", width));
  s.cr3 = value;
  return {};
}

Result<void> write_cr4(kvm_sregs& s, std::uint64_t value) {
  const bool long_mode = (s.efer & EFER_LMA) != 0;
  if (long_mode && (value & CR4_PAE) == 0) return refused("cr4", value, "long mode needs PAE");
  if (long_mode && ((value ^ s.cr4) & CR4_LA57) != 0)
    return refused("cr4", value, "LA57 does not change in long mode");
  if (!long_mode && (value & CR4_PCIDE) != 0) return refused("cr4", value, "PCIDE needs long mode");
  // FRED is the only bit up there.
  if ((value & ~low_mask(33)) != 0) return refused("cr4", value, "bits 63:33 are reserved");
  s.cr4 = value;
  return {};
}

Result<void> write_efer(kvm_sregs& s, std::uint64_t value) {
  const bool paging = (s.cr0 & CR0_PG) != 0;
  if ((value & ~kEferBits) != 0)
    return refused("efer", value, fmt::format("bits {:#x} are reserved", value & ~kEferBits));
  if (paging && ((value ^ s.efer) & EFER_LME) != 0)
    return refused("efer", value, "LME does not change while CR0.PG is 1");
  // LMA is what the processor makes of LME and PG; WRMSR leaves it alone.
  s.efer = (value & ~EFER_LMA) | (s.efer & EFER_LMA);
  return {};
}

Result<void> write_xcr0(DebugRegisters& to, std::uint64_t value, const ControlLimits& limits) {
  constexpr std::uint64_t kX87 = 1, kSse = 2, kAvx = 4, kMpx = 0x18, kAvx512 = 0xe0;
  if (value == to.xcr0) return {};
  if ((value & ~limits.xcr0) != 0)
    return refused("xcr0", value, fmt::format("this CPU has {:#x} of it (CPUID.0Dh)", limits.xcr0));
  if ((value & kX87) == 0) return refused("xcr0", value, "bit 0 (x87) is always set");
  if ((value & kAvx) != 0 && (value & kSse) == 0) return refused("xcr0", value, "AVX needs SSE");
  if ((value & kMpx) != 0 && (value & kMpx) != kMpx)
    return refused("xcr0", value, "bits 3 and 4 (MPX) go together");
  if ((value & kAvx512) != 0 && ((value & kAvx512) != kAvx512 || (value & kAvx) == 0))
    return refused("xcr0", value, "bits 5 to 7 (AVX-512) go together and need AVX");
  to.xcr0 = value;
  return {};
}

Result<void> write_debug_status(kvm_debugregs& d, std::uint64_t value,
                                const ControlLimits& limits) {
  if (value >> 32 != 0) return refused("dr6", value, "bits 63:32 are reserved");
  std::uint64_t fixed = kDr6Fixed;
  if (!limits.rtm) fixed |= kDr6Rtm;
  if (!limits.bus_lock_detect) fixed |= kDr6BusLock;
  d.dr6 = (value | fixed) & ~kDr6Clear;
  return {};
}

Result<void> write_debug_control(kvm_debugregs& d, std::uint64_t value,
                                 const ControlLimits& limits) {
  if (value >> 32 != 0) return refused("dr7", value, "bits 63:32 are reserved");
  d.dr7 = (value | kDr7Fixed) & ~(kDr7Clear | (limits.rtm ? 0 : kDr7Rtm));
  return {};
}

}  // namespace

ControlLimits ControlLimits::of(const CpuidTable& cpuid) {
  ControlLimits limits;
  limits.phys_bits = cpuid.phys_bits();
  const CpuidRegs components = cpuid.get(0xd, 0);
  if (cpuid.bit(1, 0, CpuidReg::Ecx, 26))
    limits.xcr0 = components.eax | std::uint64_t{components.edx} << 32;
  limits.rtm = cpuid.bit(7, 0, CpuidReg::Ebx, 11);
  limits.bus_lock_detect = cpuid.bit(7, 0, CpuidReg::Ecx, 24);
  return limits;
}

std::uint64_t read_control(Control which, const DebugRegisters& from) {
  const kvm_sregs& s = from.cpu.sregs;
  const kvm_debugregs& d = from.cpu.debugregs;
  switch (which) {
    case Control::Cr0:
      return s.cr0;
    case Control::Cr2:
      return s.cr2;
    case Control::Cr3:
      return s.cr3;
    case Control::Cr4:
      return s.cr4;
    case Control::Cr8:
      return s.cr8;
    case Control::Efer:
      return s.efer;
    case Control::Xcr0:
      return from.xcr0;
    case Control::Dr0:
      return d.db[0];
    case Control::Dr1:
      return d.db[1];
    case Control::Dr2:
      return d.db[2];
    case Control::Dr3:
      return d.db[3];
    case Control::Dr6:
      return d.dr6;
    case Control::Dr7:
      break;
  }
  return d.dr7;
}

Result<void> write_control(Control which, DebugRegisters& to, std::uint64_t value,
                           const ControlLimits& limits) {
  kvm_sregs& s = to.cpu.sregs;
  kvm_debugregs& d = to.cpu.debugregs;
  switch (which) {
    case Control::Cr0:
      return write_cr0(s, value);
    case Control::Cr2:
      s.cr2 = value;
      return {};
    case Control::Cr3:
      return write_cr3(s, value, limits);
    case Control::Cr4:
      return write_cr4(s, value);
    case Control::Cr8:
      if (value > 15) return refused("cr8", value, "it is a priority of 0 to 15");
      s.cr8 = value;
      return {};
    case Control::Efer:
      return write_efer(s, value);
    case Control::Xcr0:
      return write_xcr0(to, value, limits);
    case Control::Dr0:
    case Control::Dr1:
    case Control::Dr2:
    case Control::Dr3:
      d.db[static_cast<unsigned>(which) - static_cast<unsigned>(Control::Dr0)] = value;
      return {};
    case Control::Dr6:
      return write_debug_status(d, value, limits);
    case Control::Dr7:
      break;
  }
  return write_debug_control(d, value, limits);
}

Result<void> write_rip(DebugRegisters& to, std::uint64_t value) {
  if (cpu_mode(to.cpu.sregs) == CpuMode::Long64) {
    if (!is_canonical(to, value)) return refused("rip", value, "it is not canonical");
  } else if (value >> 32 != 0) {
    return refused("rip", value, "outside 64-bit code it has 32 bits");
  }
  to.cpu.regs.rip = value;
  return {};
}

Result<void> write_rflags(DebugRegisters& to, std::uint64_t value) {
  if ((value & RFLAGS_VM) != 0) {
    if ((to.cpu.sregs.efer & EFER_LMA) != 0)
      return refused("eflags", value, "long mode has no virtual-8086 mode (VM)");
    if ((to.cpu.sregs.cr0 & CR0_PE) == 0)
      return refused("eflags", value, "VM needs protected mode (CR0.PE)");
  }
  to.cpu.regs.rflags = (value & kRflagsBits) | RFLAGS_FIXED;
  return {};
}

bool is_canonical(const DebugRegisters& registers, std::uint64_t address) {
  const unsigned top = (registers.cpu.sregs.cr4 & CR4_LA57) != 0 ? 56 : 47;
  const std::uint64_t high = address >> top;
  return high == 0 || high == ~std::uint64_t{0} >> top;
}

}  // namespace vmm::gdb
