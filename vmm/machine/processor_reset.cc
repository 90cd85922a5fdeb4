#include "vmm/machine/processor_reset.h"

namespace vmm {
namespace {

constexpr std::uint8_t kCode = 11;  // execute/read, accessed
constexpr std::uint8_t kData = 3;   // read/write, accessed
constexpr std::uint8_t kLdt = 2;    // system segments
constexpr std::uint8_t kBusyTss = 11;
constexpr std::uint64_t kDr6 = 0xffff0ff0;
constexpr std::uint64_t kDr7 = 0x400;

kvm_segment segment(std::uint16_t selector, std::uint64_t base, std::uint8_t type, bool system) {
  kvm_segment segment{};
  segment.selector = selector;
  segment.base = base;
  segment.limit = 0xffff;
  segment.type = type;
  segment.present = 1;
  segment.s = system ? 0 : 1;
  return segment;
}

}  // namespace

CpuState after_init(const CpuState& before, std::uint32_t signature) {
  CpuState after;
  after.regs.rip = 0xfff0;
  after.regs.rdx = signature;
  after.regs.rflags = spec::RFLAGS_FIXED;
  kvm_sregs& s = after.sregs;
  s.cs = segment(0xf000, 0xffff0000, kCode, false);
  s.ds = s.es = s.fs = s.gs = s.ss = segment(0, 0, kData, false);
  s.ldt = segment(0, 0, kLdt, true);
  s.tr = segment(0, 0, kBusyTss, true);
  s.gdt.limit = s.idt.limit = 0xffff;
  s.cr0 = spec::CR0_ET | (before.sregs.cr0 & (spec::CR0_CD | spec::CR0_NW));
  s.apic_base = before.sregs.apic_base;
  after.debugregs.dr6 = kDr6;
  after.debugregs.dr7 = kDr7;
  // KVM takes these fields only where the flags say so; all that was on its way is gone.
  after.events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  after.mp_state = KVM_MP_STATE_RUNNABLE;
  return after;
}

void start_at(CpuState& state, std::uint8_t page) {
  state.sregs.cs.selector = static_cast<std::uint16_t>(page << 8);
  state.sregs.cs.base = std::uint64_t{page} << 12;
  state.regs.rip = 0;
}

}  // namespace vmm
