// The machine at rest: pausing it, and what its vCPUs hold then.
#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/units.h"
#include "vmm/machine/machine.h"
#include "vmm/nested/nested_state.h"

namespace vmm {
namespace {

// Whether a vCPU can only be woken by another one.
bool waits_for_ever(const CpuState& cpu, bool other_wake_up) {
  switch (cpu.mp_state) {
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
      return true;
    case KVM_MP_STATE_HALTED:
      return (cpu.regs.rflags & spec::RFLAGS_IF) == 0 && cpu.events.nmi.pending == 0 &&
             cpu.events.nmi.injected == 0 && cpu.events.smi.pending == 0 && !other_wake_up;
    default:
      return false;
  }
}

// Pages whose EXITCODE is -1 and whose reserved bytes before it are 0 (APM vol. 2 appendix B). KVM
// keeps nothing of a VMRUN that failed, so that memory is all there is to look at.
std::vector<Gpa> refused_vmcbs(const GuestMemory& memory) {
  constexpr std::size_t kPage = 4096, kReserved = 0x18, kReservedEnd = 0x38, kExitCode = 0x70;
  constexpr std::size_t kMost = 4;
  // To look at more would take seconds.
  constexpr std::uint64_t kLookedAt = 8_GiB;
  std::vector<Gpa> found;
  for (const GuestMemory::Region& region : memory.regions()) {
    const std::uint64_t size = std::min<std::uint64_t>(region.host.size(), kLookedAt);
    for (std::uint64_t at = 0; at + kPage <= size && found.size() < kMost; at += kPage) {
      const auto page = region.host.subspan(at, kPage);
      // Older KVM writes the low half alone.
      const auto code = load<std::uint64_t>(page, kExitCode);
      if (code != ~std::uint64_t{0} && code != 0xffffffff) continue;
      const auto reserved = page.subspan(kReserved, kReservedEnd - kReserved);
      if (std::ranges::all_of(reserved, [](std::uint8_t byte) { return byte == 0; }))
        found.push_back(region.base + at);
    }
  }
  return found;
}

}  // namespace

Result<void> Machine::pause() {
  const std::lock_guard rest(rest_);
  if (held_) return {};
  if (threads_ != nullptr) threads_->pause();
  if (disk_thread_ != nullptr) disk_thread_->pause();
  {
    auto board = board_.lock();
    (*board)->clock.pause();
    // Up to this moment, so that the event loop, which goes on, changes nothing by looking.
    (*board)->advance();
    (*board)->sync_routes();
  }
  return hold_time();
}

Result<void> Machine::resume() { return run_some(std::vector<bool>(vcpu_count(), true)); }

Result<void> Machine::run_some(const std::vector<bool>& who) {
  const std::lock_guard rest(rest_);
  VMM_TRY(release_time());
  // Those of a pause that came at the same moment: their vCPUs stand where they stopped, and stop
  // anew.
  debug_stops_.lock()->clear();
  (*board_.lock())->clock.resume();
  if (disk_thread_ != nullptr) disk_thread_->resume();
  if (threads_ != nullptr) threads_->resume(who);
  return {};
}

// For good, so no clock has to be put back.
void Machine::stop() {
  const std::lock_guard rest(rest_);
  threads_->pause();
  if (disk_thread_ != nullptr) disk_thread_->pause();
  (*board_.lock())->clock.pause();
}

Result<CpuState> Machine::cpu_state(unsigned vcpu) {
  if (dead_ && dead_->first == vcpu) return dead_->second;
  CpuState state = VMM_TRY(vcpus_[vcpu]->state());
  state.mp_state = mp_state_of(vcpu, state.mp_state);
  return state;
}

// Where the LAPIC is ours KVM knows vCPUs that run and nothing else.
std::uint32_t Machine::mp_state_of(unsigned vcpu, std::uint32_t kvms) {
  auto board = board_.lock();
  if (const UserIrqChip* chip = (*board)->user_chip()) {
    switch (chip->activity(vcpu)) {
      case UserIrqChip::Activity::Running:
        break;
      case UserIrqChip::Activity::Halted:
        return KVM_MP_STATE_HALTED;
      case UserIrqChip::Activity::WaitForSipi:
        return KVM_MP_STATE_UNINITIALIZED;
    }
  }
  return kvms;
}

Result<void> Machine::set_cpu_state(unsigned vcpu, const CpuState& state) {
  CpuState wanted = state;
  {
    auto board = board_.lock();
    if (UserIrqChip* chip = (*board)->user_chip()) {
      using Activity = UserIrqChip::Activity;
      chip->set_activity(vcpu, state.mp_state == KVM_MP_STATE_HALTED     ? Activity::Halted
                               : state.mp_state == KVM_MP_STATE_RUNNABLE ? Activity::Running
                                                                         : Activity::WaitForSipi);
      wanted.mp_state = KVM_MP_STATE_RUNNABLE;
    }
  }
  return vcpus_[vcpu]->set_state(wanted);
}

HypervisorState Machine::hypervisor_state(unsigned vcpu) {
  HypervisorState state;
  const bool vmx = guest_cpuid_.bit(1, 0, CpuidReg::Ecx, 5);
  const bool svm = guest_cpuid_.bit(0x80000001, 0, CpuidReg::Ecx, 2);
  if (!vmx && !svm) return state;
  if (auto nested = vcpus_[vcpu]->nested_state()) state.nested = std::move(*nested);
  const auto read = [&](std::uint32_t index) {
    // Not all of them are there in every model.
    if (const auto value = vcpus_[vcpu]->msr(index)) state.msrs[index] = *value;
  };
  constexpr std::uint32_t kVmxBasic = 0x480, kVmxVmFunc = 0x491;
  constexpr std::uint32_t kVmCr = 0xc0010114, kVmHsavePa = 0xc0010117;
  for (std::uint32_t index = kVmxBasic; vmx && index <= kVmxVmFunc; ++index) read(index);
  if (svm) read(kVmCr), read(kVmHsavePa);
  // Once, since they belong to no vCPU.
  if (svm && vcpu == 0 && state.msrs[kVmHsavePa] != 0) state.refused_vmcbs = refused_vmcbs(memory_);
  return state;
}

bool Machine::write_memory(Gpa gpa, std::span<const std::uint8_t> data) {
  return memory_.write(gpa, data);
}

Result<bool> Machine::can_wake_masked(unsigned vcpu) {
  if (kernel_chip_ != nullptr) return kernel_chip_->can_wake_masked(vcpu);
  auto board = board_.lock();
  return (*board)->user_chip()->can_wake_masked(vcpu);
}

// Whether the vCPU is halted in L2, and its hypervisor may end that.
bool Machine::hypervisor_can_wake(unsigned vcpu) {
  const auto bytes = vcpus_[vcpu]->nested_state();
  if (!bytes || bytes->empty()) return false;
  const auto state = nested::parse_nested_state(*bytes);
  return state && nested::may_leave_halt(*state);
}

// All vCPUs stopped at one moment: what one of them could still send is already delivered, so the
// answer holds for good.
bool Machine::halted_for_ever() {
  const std::lock_guard rest(rest_);
  if (held_) return false;
  // No clock is touched: this is done several times a second, and the guest must not notice.
  threads_->pause();
  // What a disk still has to do may end with an interrupt.
  bool dead = disk_thread_ == nullptr || !disk_thread_->busy();
  for (unsigned i = 0; i < vcpu_count() && dead; ++i) {
    const auto state = cpu_state(i);
    const auto other = can_wake_masked(i);
    dead = state && other && waits_for_ever(*state, *other) && !hypervisor_can_wake(i);
  }
  if (!dead) threads_->resume();
  return dead;
}

}  // namespace vmm
