// One vCPU of KVM.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "vmm/base/fd.h"
#include "vmm/core/backend.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/uapi.h"
#include "vmm/kvm/capabilities.h"

namespace vmm {

// The signal that brings a vCPU thread out of KVM_RUN. Its handler does nothing; the process must
// have one installed (install_kick_handler) before the first kick.
int kick_signal();
void install_kick_handler();

class Vcpu final : public VcpuBackend {
 public:
  // Takes the vCPU's descriptor and maps its kvm_run of `run_size` bytes.
  static Result<std::unique_ptr<Vcpu>> create(Fd fd, std::size_t run_size, bool sync_regs);

  // KVM_SET_CPUID2; must precede the first run.
  Result<void> set_cpuid(const CpuidTable& cpuid);
  // KVM_GET_CPUID2: what the guest will really see.
  Result<CpuidTable> cpuid();
  // Sets one MSR; the error names it when KVM refuses.
  Result<void> set_msr(std::uint32_t index, std::uint64_t value);
  Result<std::uint64_t> msr(std::uint32_t index);
  // KVM_ENABLE_CAP on the vCPU.
  Result<void> enable(const Capability& capability, std::uint64_t argument);
  // KVM_GET_LAPIC: the 1 KiB register page of KVM's LAPIC.
  Result<kvm_lapic_state> lapic();
  // KVM_GET_TSC_KHZ: the frequency of the guest's TSC.
  Result<std::uint32_t> tsc_khz();
  // KVM_TRANSLATE: the guest physical address of `gva`, or nothing when it is not mapped.
  Result<std::optional<Gpa>> translate(Gva gva);

  Result<Exit> run() override;
  Result<Exit> settle() override;
  Result<CpuState> state() override;
  Result<void> set_state(const CpuState& state) override;
  Result<std::uint32_t> mp_state() override;
  std::uint64_t last_rip() const override;
  EntryState entry_state() const override;
  Result<void> prepare(const EntryPlan& plan) override;
  // CR8 at the next entry; entry_state() gives it back until then.
  void set_cr8(std::uint8_t value) { shared()->cr8 = value; }
  Result<std::uint64_t> tsc() override;
  void kick() override;

  // The thread that will call run(), for kick(); set once by that thread.
  void bind_to_this_thread();
  // The general and system registers as of the exit before the last one, from the shared page;
  // false when the host does not give them (no KVM_CAP_SYNC_REGS). Used where the last exit
  // destroys them.
  bool registers_before_last_exit(kvm_regs& regs, kvm_sregs& sregs) const;

 private:
  Vcpu(Fd fd, Mapping mapping, bool sync_regs);
  kvm_run* shared() const { return reinterpret_cast<kvm_run*>(mapping_.bytes().data()); }
  std::atomic_ref<std::uint8_t> immediate_exit() const {
    return std::atomic_ref<std::uint8_t>(shared()->immediate_exit);
  }
  Result<Exit> enter();

  Fd fd_;
  Mapping mapping_;
  bool sync_regs_;
  kvm_regs previous_regs_{};
  kvm_sregs previous_sregs_{};
  bool have_previous_ = false;
  pthread_t thread_{};
  std::atomic<bool> bound_{false};
};

}  // namespace vmm
