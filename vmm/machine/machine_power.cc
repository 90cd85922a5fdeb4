// INIT, SIPI and the sleeping state S3.
#include <fmt/format.h>

#include <array>

#include "loader/acpi_tables.h"
#include "loader/firmware_tables.h"
#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/processor_reset.h"

namespace vmm {
// S3, from within the write to PM1_CNT: the vCPU that wrote goes no further than that, the others
// come out where they are. Devices go on; the real-time clock may wake the machine.
void Machine::suspend() {
  suspended_ = true;
  if (threads_ == nullptr) return;
  for (unsigned i = 0; i < vcpu_count(); ++i) threads_->wake(i);
}

// ACPI 6.4 16.3.2: the processor goes on in real mode at the FACS's waking vector, memory as it
// was, everything else as after power-on.
Result<void> Machine::wake_from_s3() {
  const std::lock_guard rest(rest_);
  if (held_) return {};  // paused: it wakes when that is over
  threads_->pause();
  std::array<std::uint8_t, 4> vector{};
  VMM_CHECK(memory_.read(kFacs + kFacsWakingVector, vector), "the FACS is in RAM");
  const auto waking = load<std::uint32_t>(vector, 0);
  if (waking == 0 || waking >= 1_MiB) {
    end_by_device(
        **board_.lock(),
        ending::Reset{fmt::format(
            "wake-up from S3, but the FACS has no waking vector below 1 MiB ({:x}h)", waking)});
    return {};
  }
  {
    auto board = board_.lock();
    (*board)->wake_up();
    if (vm_power_on_.chips) VMM_TRY_CONTEXT(vm_->set_chips(*vm_power_on_.chips), "wake from S3");
    for (unsigned i = 0; i < vcpu_count(); ++i) {
      CpuState state = power_on_registers(**board, i);
      state.sregs.cr0 = spec::CR0_ET;
      if (i == 0) {
        // CS:IP of a physical address (5.2.10): the segment has its bits 19:4.
        state.sregs.cs.selector = static_cast<std::uint16_t>(waking >> 4);
        state.sregs.cs.base = waking & ~0xfu;
        state.regs.rip = waking & 0xf;
      }
      VMM_TRY_CONTEXT(power_on(i, state), fmt::format("wake vCPU {} from S3", i));
    }
  }
  suspended_ = false;
  threads_->resume();
  return {};
}

// As KVM made the vCPU, its LAPIC with it; ours decides about the APIC base.
CpuState Machine::power_on_registers(Board& board, unsigned index) {
  const CpuState& fresh = power_on_[index].cpu;
  CpuState state = after_init(fresh, signature_);
  state.sregs.cr0 = fresh.sregs.cr0;
  state.mp_state = fresh.mp_state;
  if (UserIrqChip* chip = board.user_chip()) state.sregs.apic_base = chip->lapic(index).base();
  return state;
}

// Everything else too: x87 and SSE, XCR0, the MSRs as the CPU model sets them, VMX or SVM left.
Result<void> Machine::power_on(unsigned index, const CpuState& start) {
  VcpuState state = power_on_[index];
  state.cpu = start;
  return vcpus_[index]->set_full_state(state);
}

Result<void> Machine::reset_vcpu(unsigned index) {
  const std::lock_guard rest(rest_);
  if (!held_) return fail(Error::internal("a vCPU was to be reset while the machine ran"));
  auto board = board_.lock();
  if (UserIrqChip* chip = (*board)->user_chip()) chip->reset(index);
  VMM_TRY_CONTEXT(power_on(index, power_on_registers(**board, index)),
                  fmt::format("reset vCPU {}", index));
  held_->vcpus[index] = VcpuTime{.tsc = held_->vcpus[index].tsc};
  return {};
}

// INIT and SIPI reach the registers on the vCPU's own thread, with its last exit completed.
Result<void> Machine::restart(unsigned index, const EntryPlan& plan) {
  Vcpu& vcpu = *vcpus_[index];
  while (true) {
    const Exit rest = VMM_TRY(vcpu.settle());
    if (std::holds_alternative<Interrupted>(rest)) break;
    // A part of a split access that the INIT cut off: the devices see it, an ending would be told
    // by the next exit.
    (void)handle(rest, index, vcpu.last_rip());
  }
  CpuState state = VMM_TRY(vcpu.state());
  if (plan.init) state = after_init(state, signature_);
  if (plan.sipi) start_at(state, *plan.sipi);
  VMM_TRY_CONTEXT(vcpu.set_state(state), fmt::format("restart vCPU {}", index));
  return {};
}

}  // namespace vmm
