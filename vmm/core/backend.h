// What the machine needs of a hypervisor: KVM in earnest (vmm/kvm), fakes in tests.
#pragma once

#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/core/cpu_state.h"
#include "vmm/core/exit.h"
#include "vmm/core/irqchip.h"

namespace vmm {

class VcpuBackend {
 public:
  virtual ~VcpuBackend() = default;

  // Runs the guest until something happens. Only on the vCPU's own thread. An error is a failed
  // KVM_RUN (EINTR is Exit{Interrupted}).
  virtual Result<Exit> run() = 0;
  // Completes a pending port, MMIO or MSR exit without running further, so that registers and
  // memory are consistent (KVM api.rst, KVM_RUN). Needed before state() after such an exit. Gives
  // Interrupted when that is done; another exit (the next part of a split access) must be handled
  // and settled in turn.
  virtual Result<Exit> settle() = 0;
  virtual Result<CpuState> state() = 0;
  virtual Result<void> set_state(const CpuState& state) = 0;
  // KVM_MP_STATE_* alone.
  virtual Result<std::uint32_t> mp_state() = 0;
  // RIP as of the last exit, without an ioctl (KVM_CAP_SYNC_REGS); 0 where the host lacks that.
  virtual std::uint64_t last_rip() const = 0;
  // For interrupt controllers outside KVM: what the last exit left, and what the next entry shall
  // do (the interrupt, the NMI, the window and CR8 of `plan`; INIT and SIPI are set_state()).
  virtual EntryState entry_state() const { return {}; }
  virtual Result<void> prepare(const EntryPlan& /*plan*/) { return {}; }
  // The guest's time-stamp counter now.
  virtual Result<std::uint64_t> tsc() { return std::uint64_t{0}; }
  // By the thread that will call run(), for kick(): before the first one, and when it takes up
  // another vCPU.
  virtual void bind_to_this_thread() {}
  // From any thread: makes run() return Interrupted soon, also when it has not started yet.
  virtual void kick() = 0;
};

}  // namespace vmm
