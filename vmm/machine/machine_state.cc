// The machine at rest: pausing it, and what its vCPUs hold then.
#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/units.h"
#include "vmm/machine/debug_session.h"
#include "vmm/machine/machine.h"

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

Result<void> Machine::resume() { return run_some(everyone()); }

Result<void> Machine::run_some(const std::vector<bool>& who) {
  const std::lock_guard rest(rest_);
  // KVM's events up to the pause, by the clock as it was.
  if (kvm_trace_ != nullptr) drain_traces();
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

bool Machine::write_memory(Gpa gpa, std::span<const std::uint8_t> data) {
  return memory_.write(gpa, data);
}

Result<bool> Machine::can_wake_masked(unsigned vcpu) {
  if (kernel_chip_ != nullptr) return kernel_chip_->can_wake_masked(vcpu);
  auto board = board_.lock();
  return (*board)->user_chip()->can_wake_masked(vcpu);
}

// All vCPUs stopped at one moment: what one of them could still send is already delivered, so the
// answer holds for good.
bool Machine::halted_for_ever() {
  const std::lock_guard rest(rest_);
  if (held_) return false;
  // No clock is touched: this is done several times a second, and the guest must not notice.
  threads_->pause();
  // A stop of --catch's is for the event loop, and whoever stands there does not go on before.
  if (!debug_stops_.lock()->empty()) return false;
  // What a disk still has to do may end with an interrupt.
  bool dead = disk_thread_ == nullptr || !disk_thread_->busy();
  for (unsigned i = 0; i < vcpu_count() && dead; ++i) {
    const auto state = cpu_state(i);
    const auto other = can_wake_masked(i);
    dead = state && other && waits_for_ever(*state, *other) && !hypervisor_can_wake(i);
  }
  if (!dead) threads_->resume(debugger_ != nullptr ? debugger_->who() : everyone());
  return dead;
}

}  // namespace vmm
