// A whole virtual machine: memory, board, vCPU threads and the event loop around them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "loader/boot.h"
#include "vmm/base/guarded.h"
#include "vmm/core/debug_target.h"
#include "vmm/kvm/irqchip_kernel.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/console.h"
#include "vmm/machine/pc_board.h"
#include "vmm/machine/spec.h"
#include "vmm/machine/vcpu_threads.h"

namespace vmm {

class JsonTraceFile;
class LiveScreen;

class Machine final : public DebugTarget {
 public:
  // Builds everything up to, not including, the first guest instruction: `kvm` must outlive the
  // machine. Errors as their makers say (65 for an image that does not fit, 77 for the host, also
  // when KVM gives back another CPUID than was set, except where kvm_pvm is known to).
  static Result<std::unique_ptr<Machine>> create(const Kvm& kvm, const MachineSpec& spec,
                                                 const ResolvedCpu& cpu, const HostGrant& host,
                                                 const LoadedImage& image);
  ~Machine() override;

  // Runs the guest until it ends, times out, is stopped by a signal or quit by the user. Afterwards
  // every vCPU is paused and can be looked at.
  Result<RunOutcome> run();

  unsigned vcpu_count() const override { return static_cast<unsigned>(vcpus_.size()); }
  Result<void> pause() override;
  Result<void> resume() override;
  Result<CpuState> cpu_state(unsigned vcpu) override;
  Result<void> set_cpu_state(unsigned vcpu, const CpuState& state) override;
  const MemoryReader& memory() const override { return memory_; }
  bool write_memory(Gpa gpa, std::span<const std::uint8_t> data) override;
  const SymbolTable& symbols() const override { return symbols_; }

  Guarded<std::unique_ptr<Board>>& board() { return board_; }
  Vcpu& vcpu(unsigned index) { return *vcpus_[index]; }
  IrqChip& irqchip() { return *irqchip_; }
  const std::vector<std::string>& kvm_capabilities() const { return vm_->enabled(); }
  const std::vector<std::string>& disabled_quirks() const { return vm_->disabled_quirks(); }
  // What KVM made of the CPUID that was set: vCPU 0 as read back.
  const CpuidTable& guest_cpuid() const { return guest_cpuid_; }
  // Where that differs from what was set; empty except on kvm_pvm.
  const std::vector<CpuidDifference>& cpuid_differences() const { return cpuid_differences_; }
  VmTime now();

 private:
  Machine(const MachineSpec& spec, GuestMemory memory);
  Result<void> create_vcpus(const ResolvedCpu& cpu, const HostGrant& host);
  Result<void> set_cpu(unsigned vcpu, const ResolvedCpu& cpu, const HostGrant& host);
  Result<void> open_outside();
  Step handle(const Exit& exit, unsigned vcpu, Gva rip);
  Result<void> event_loop(LiveScreen* screen);
  std::chrono::milliseconds serve_deadlines();
  bool halted_for_ever();
  void wake();

  MachineSpec spec_;
  GuestMemory memory_;
  SymbolTable symbols_;
  Fd wake_;
  Fd signals_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<KernelIrqChip> irqchip_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  CpuidTable guest_cpuid_;
  std::vector<CpuidDifference> cpuid_differences_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<JsonTraceFile> trace_;
  Guarded<std::unique_ptr<Board>> board_;
  VmTime armed_deadline_ = VmTime::max();  // what the event loop sleeps for; under the board's lock
  std::unique_ptr<VcpuThreads> threads_;
};

}  // namespace vmm
