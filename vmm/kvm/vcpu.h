// One vCPU of KVM.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/core/backend.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/debug_control.h"
#include "vmm/core/debug_registers.h"
#include "vmm/core/uapi.h"
#include "vmm/core/vcpu_state.h"
#include "vmm/kvm/capabilities.h"

namespace vmm {

// The signal that brings a vCPU thread out of KVM_RUN. Its handler does nothing; the process must
// have one installed (install_kick_handler) before the first kick.
int kick_signal();
void install_kick_handler();

// What the host's KVM gives of a vCPU's state, the same for all vCPUs of a VM.
struct VcpuOffer {
  bool sync_regs = false;
  bool sregs2 = false;
  bool xcrs = false;
  bool lapic = false;                    // KVM's
  std::size_t xsave = 0;                 // bytes of the XSAVE area
  bool xsave2 = false;                   // read with KVM_GET_XSAVE2
  std::size_t nested = 0;                // most bytes of the nested state
  std::vector<std::uint32_t> msrs = {};  // KVM_GET_MSR_INDEX_LIST
};

class Vcpu final : public VcpuBackend {
 public:
  // Takes the vCPU's descriptor and maps its kvm_run of `run_size` bytes.
  static Result<std::unique_ptr<Vcpu>> create(Fd fd, std::size_t run_size, VcpuOffer offer);

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
  Result<void> set_lapic(const kvm_lapic_state& state);
  // KVM_GET_TSC_KHZ: the frequency of the guest's TSC.
  Result<std::uint32_t> tsc_khz();
  Result<void> set_tsc_khz(std::uint32_t khz);
  // KVM_SET_GUEST_DEBUG.
  Result<void> set_debug_control(const DebugControl& control);
  Result<DebugRegisters> debug_registers();
  // Writes what differs from what the vCPU has.
  Result<void> set_debug_registers(const DebugRegisters& registers);
  // KVM_GET_REGS and KVM_SET_REGS, by the vCPU's thread between an exit and the next entry. RAX is
  // overwritten then by what an IN reads.
  Result<kvm_regs> general_registers();
  Result<void> set_general_registers(const kvm_regs& regs);
  // KVM_TRANSLATE: the guest physical address of `gva`, or nothing when it is not mapped.
  Result<std::optional<Gpa>> translate(Gva gva);

  // All of it, with the TSC and, of KVM's LAPIC, the timer as they are now. Which MSRs belong to it
  // is found out by the first call and stays: the CPUID must have been set.
  Result<VcpuState> full_state();
  // Puts it back, but for the TSC. What KVM's LAPIC counts goes on from what the page says; with
  // another list of MSRs, or an area of another size, nothing is changed.
  Result<void> set_full_state(const VcpuState& state);
  // KVM_GET_NESTED_STATE; empty where KVM offers none.
  Result<std::vector<std::uint8_t>> nested_state();
  // What KVM has counted of the vCPU, by KVM's names (counters.h); an error where the kernel has no
  // such file (Linux before 5.14).
  Result<std::map<std::string, std::uint64_t>> counters();
  // IA32_TSC_DEADLINE of KVM's LAPIC; 0: not armed, or a vCPU without that timer.
  Result<std::uint64_t> tsc_deadline();
  // Exactly what KVM adds to the host's (scaled) TSC; nothing where the host has no such attribute
  // (Linux before 5.16).
  Result<std::optional<std::uint64_t>> tsc_offset();
  // False: KVM took the value, and has another one all the same (kvm_pvm).
  Result<bool> set_tsc_offset(std::uint64_t offset);
  // Tells a guest with kvmclock that it was stopped, so that its watchdogs hold still.
  void tell_paused();

  Result<Exit> run() override;
  Result<Exit> settle() override;
  Result<CpuState> state() override;
  Result<void> set_state(const CpuState& state) override;
  // Only general, segment and control registers; behind share_registers() and a run no call of KVM.
  Result<CpuState> brief_state();
  Result<std::uint32_t> mp_state() override;
  std::uint64_t last_rip() const override;
  EntryState entry_state() const override;
  Result<void> prepare(const EntryPlan& plan) override;
  // CR8 at the next entry; entry_state() gives it back until then.
  void set_cr8(std::uint8_t value) { shared()->cr8 = value; }
  Result<std::uint64_t> tsc() override;
  void kick() override;

  void bind_to_this_thread() override;
  // From now on KVM leaves the registers in the shared page at every exit: for brief_state().
  void share_registers();
  // From now on registers_before_last_exit() knows: KVM copies the system registers at every exit,
  // which is some hundredths of it, so only where an exit may destroy them.
  void keep_registers();
  // The general and system registers as of the exit before the last one, from the shared page;
  // false without keep_registers() or when the host does not give them (no KVM_CAP_SYNC_REGS).
  bool registers_before_last_exit(kvm_regs& regs, kvm_sregs& sregs) const;

 private:
  Vcpu(Fd fd, Mapping mapping, VcpuOffer offer);
  Result<void> find_msrs();
  Result<std::vector<std::uint64_t>> read_msrs(std::span<const std::uint32_t> indices);
  Result<void> write_changed_msrs(const VcpuState& state);
  Result<void> read_areas(VcpuState& state);
  Result<void> write_sregs(const VcpuState& state);
  Result<void> write_areas(const VcpuState& state);
  void expect_entry(const CpuState& state);
  Result<void> read_xsave(std::vector<std::uint8_t>& xsave, std::uint64_t& xcr0);
  Result<void> write_xsave(const std::vector<std::uint8_t>& xsave, std::uint64_t xcr0);
  kvm_run* shared() const { return reinterpret_cast<kvm_run*>(mapping_.bytes().data()); }
  std::atomic_ref<std::uint8_t> immediate_exit() const {
    return std::atomic_ref<std::uint8_t>(shared()->immediate_exit);
  }
  Result<Exit> enter();

  Fd fd_;
  Mapping mapping_;
  VcpuOffer offer_;
  bool msrs_found_ = false;
  std::optional<bool> has_tsc_offset_;
  bool shares_state_ = false;  // the shared page has the registers as they are
  bool keep_registers_ = false;
  kvm_regs previous_regs_{};
  kvm_sregs previous_sregs_{};
  bool have_previous_ = false;
  pid_t process_ = 0;
  std::atomic<pid_t> thread_{0};
};

}  // namespace vmm
