// The VM's part of a saved machine: KVM's own board, and what it offers of a vCPU's state.
#include <fmt/format.h>

#include "vmm/kvm/ioctls.h"
#include "vmm/kvm/vm.h"

namespace vmm {
namespace {

// Hardware-triggered strobe: KVM's PIT runs no timer for it, as nothing could trigger it.
constexpr std::uint8_t kPitModeWithoutTimer = 5;

}  // namespace

Result<void> Vm::ask_for_offer(IrqChipKind kind) {
  constexpr int kSyncRegs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  kind_ = kind;
  offer_.sync_regs = (VMM_TRY(kvm_.capability(capability::SYNC_REGS)) & kSyncRegs) == kSyncRegs;
  offer_.sregs2 = VMM_TRY(kvm_.capability(capability::SREGS2)) != 0;
  offer_.xcrs = VMM_TRY(kvm_.capability(capability::XCRS)) != 0;
  offer_.lapic = kind != IrqChipKind::User;
  // The size includes the areas that a guest may ask for later; older kernels know one size.
  const int xsave2 = VMM_TRY(kvm_.capability(capability::XSAVE2));
  offer_.xsave2 = xsave2 > static_cast<int>(sizeof(kvm_xsave));
  if (offer_.xsave2)
    offer_.xsave = static_cast<std::size_t>(xsave2);
  else if (VMM_TRY(kvm_.capability(capability::XSAVE)) != 0)
    offer_.xsave = sizeof(kvm_xsave);
  offer_.nested = static_cast<std::size_t>(VMM_TRY(kvm_.capability(capability::NESTED_STATE)));
  if (offer_.xsave > VcpuState::kMaxXsave || offer_.nested > VcpuState::kMaxNested)
    return fail(
        Error::host(fmt::format("KVM's XSAVE area has {} bytes and its nested state {}, "
                                "more than a saved vCPU takes",
                                offer_.xsave, offer_.nested)));
  offer_.msrs = VMM_TRY(kvm_.state_msrs());
  clock_ = VMM_TRY(kvm_.capability(capability::ADJUST_CLOCK)) != 0;
  return {};
}

Result<kvm_irqchip> Vm::chip(std::uint32_t id) {
  kvm_irqchip state{};
  state.chip_id = id;
  VMM_TRY(fd_.ioctl(request::GET_IRQCHIP, &state, fmt::format("chip_id={}", id)));
  return state;
}

Result<VmState> Vm::state() {
  VmState state;
  if (clock_) {
    kvm_clock_data clock{};
    VMM_TRY(fd_.ioctl(request::GET_CLOCK, &clock));
    state.clock = clock.clock;
  }
  if (kind_ != IrqChipKind::Kernel) return state;
  KernelChips chips;
  chips.pic_master = VMM_TRY(chip(KVM_IRQCHIP_PIC_MASTER));
  chips.pic_slave = VMM_TRY(chip(KVM_IRQCHIP_PIC_SLAVE));
  chips.ioapic = VMM_TRY(chip(KVM_IRQCHIP_IOAPIC));
  VMM_TRY(fd_.ioctl(request::GET_PIT2, &chips.pit));
  state.chips = chips;
  return state;
}

Result<void> Vm::set_chips(const KernelChips& chips) {
  for (kvm_irqchip chip : {chips.pic_master, chips.pic_slave, chips.ioapic})
    VMM_TRY(fd_.ioctl(request::SET_IRQCHIP, &chip, fmt::format("chip_id={}", chip.chip_id)));
  return set_pit(chips.pit);
}

Result<bool> Vm::set_clock(std::uint64_t nanoseconds) {
  if (!clock_) return false;
  kvm_clock_data clock{};
  clock.clock = nanoseconds;
  VMM_TRY(fd_.ioctl(request::SET_CLOCK, &clock, fmt::format("clock={}", nanoseconds)));
  return true;
}

Result<void> Vm::set_pit(const kvm_pit_state2& state) {
  kvm_pit_state2 copy = state;
  VMM_TRY(fd_.ioctl(request::SET_PIT2, &copy));
  return {};
}

Result<void> Vm::stop_pit(const kvm_pit_state2& now) {
  kvm_pit_state2 stopped = now;
  stopped.channels[0].mode = kPitModeWithoutTimer;
  return set_pit(stopped);
}

Result<void> Vm::set_tsc_khz(std::uint32_t khz) {
  VMM_TRY(fd_.ioctl(request::SET_TSC_KHZ, khz, fmt::format("tsc_khz={}", khz)));
  return {};
}

}  // namespace vmm
