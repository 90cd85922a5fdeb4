// A whole virtual machine: memory, board, vCPU threads and the event loop around them.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "loader/boot.h"
#include "loader/firmware_image.h"
#include "loader/firmware_items.h"
#include "vmm/base/guarded.h"
#include "vmm/core/debug_target.h"
#include "vmm/kvm/irqchip_kernel.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/console.h"
#include "vmm/machine/disk_thread.h"
#include "vmm/machine/exit_statistics.h"
#include "vmm/machine/explain.h"
#include "vmm/machine/flash_file.h"
#include "vmm/machine/irqchip_choice.h"
#include "vmm/machine/monitor_machine.h"
#include "vmm/machine/pc_board.h"
#include "vmm/machine/saved_state.h"
#include "vmm/machine/seccomp.h"
#include "vmm/machine/spec.h"
#include "vmm/machine/terminal_screen.h"
#include "vmm/machine/test_verdicts.h"
#include "vmm/machine/vcpu_threads.h"

namespace vmm {

class KvmTrace;
class TraceFile;
class LiveScreen;
class Keyboard;
class DebugSession;
class Catcher;
struct CaughtEvent;
struct MonitorAnswer;
class ControlSession;

class Machine final : public DebugTarget, public MonitorMachine {
 public:
  // Builds everything up to, not including, the first guest instruction: `kvm` and `image` must
  // outlive the machine. Errors as their makers say (65 for an image that does not fit, 77 for the
  // host, also when KVM gives back another CPUID than was set, except where kvm_pvm is known to).
  static Result<std::unique_ptr<Machine>> create(const Kvm& kvm, const MachineSpec& spec,
                                                 const ResolvedCpu& cpu, const HostGrant& host,
                                                 const IrqChipChoice& irqchip,
                                                 const LoadedImage& image);
  ~Machine() override;

  // Runs the guest until it ends, times out, is stopped by a signal or quit by the user. Afterwards
  // every vCPU is paused and can be looked at.
  Result<RunOutcome> run();

  unsigned vcpu_count() const override { return static_cast<unsigned>(vcpus_.size()); }
  // The guest's clocks stand still too, but for what_cannot_stand_still().
  Result<void> pause() override;
  Result<void> resume() override;
  // The guest's clocks that go on while it is paused, each with its reason, as far as this host let
  // that be seen: the last resume() knows it.
  const std::vector<std::string>& what_cannot_stand_still() const { return moving_clocks_; }
  Result<CpuState> cpu_state(unsigned vcpu) override;
  Result<CpuState> brief_state(unsigned vcpu) override;
  Result<void> set_cpu_state(unsigned vcpu, const CpuState& state) override;
  const MemoryReader& memory() const override { return memory_; }
  const GuestMemory& guest_memory() const { return memory_; }
  // Only while paused, or before run(): all of the machine but its memory and what lies outside
  // (console, trace). Loading needs a machine of the same spec with the same memory; an error
  // leaves a machine that must not go on.
  Result<MachineState> save_state();
  Result<void> load_state(const MachineState& state);
  // Only while paused: the processor as after power-on, its LAPIC too. vCPU 0 goes on at the reset
  // vector, another waits for a SIPI. Its TSC goes on.
  Result<void> reset_vcpu(unsigned vcpu);
  HypervisorState hypervisor_state(unsigned vcpu) override;
  std::map<std::string, std::uint64_t> counters(unsigned vcpu) override;
  std::vector<Gpa> refused_vmcbs() override;
  NestedPosition nested_position(unsigned vcpu) override;
  bool write_memory(Gpa gpa, std::span<const std::uint8_t> data) override;
  const SymbolTable& symbols() const override { return symbols_; }
  DebugSupport debug_support() const override { return debug_support_; }
  Result<DebugRegisters> registers(unsigned vcpu) override;
  Result<std::uint32_t> mp_state(unsigned vcpu) override;
  Result<void> set_registers(unsigned vcpu, const DebugRegisters& registers) override;
  Result<std::uint64_t> msr(unsigned vcpu, std::uint32_t index) override;
  Result<void> set_msr(unsigned vcpu, std::uint32_t index, std::uint64_t value) override;
  const CpuidTable& cpuid() const override { return guest_cpuid_; }
  Result<void> set_debug_control(unsigned vcpu, const DebugControl& control) override;
  Result<void> run_some(const std::vector<bool>& who) override;

  MachineAbout about() override;
  Result<LapicView> lapic_view(unsigned vcpu) override;
  Result<IoapicView> ioapic_view() override;
  std::vector<TraceEvent> exits(unsigned vcpu, std::size_t count) override;
  // The VGA's text; of firmware, which has no driver for that, what it writes to its terminal,
  // until someone writes to the VGA.
  VgaSnapshot screen() override;
  std::optional<TraceAbout> trace_about() override;
  Result<std::string> mmio_read(unsigned vcpu, Gpa gpa, std::span<std::uint8_t> data) override;
  Result<std::string> mmio_write(unsigned vcpu, Gpa gpa,
                                 std::span<const std::uint8_t> data) override;
  // Also for the guest's own, with --on-reset reboot: memory is empty, the images are there again,
  // processors, devices and KVM's VM are new. What is outside goes on: console, disks, variables,
  // trace, connections. An error in the middle ends the run.
  Result<void> reset() override;
  void quit() override;
  void hang_up() override;
  std::optional<std::string> crash_card() override { return card_; }

  Guarded<std::unique_ptr<Board>>& board() { return board_; }
  Vcpu& vcpu(unsigned index) { return *vcpus_[index]; }
  // Whose interrupt controllers it got, and why not our own LAPIC (empty where it is, or where the
  // user chose).
  IrqChipKind irqchip() const { return irqchip_; }
  const std::string& irqchip_reason() const { return irqchip_reason_; }
  const std::vector<std::string>& kvm_capabilities() const { return vm_->enabled(); }
  std::uint32_t disabled_quirks() const { return vm_->disabled_quirks(); }
  // What KVM made of the CPUID that was set: vCPU 0 as read back.
  const CpuidTable& guest_cpuid() const { return guest_cpuid_; }
  // Of the MSRs that tell a guest about its CPU, what KVM reports for vCPU 0 after all was set.
  const std::map<std::uint32_t, std::uint64_t>& guest_msrs() const { return guest_msrs_; }
  // Where that differs from what was set; empty except on kvm_pvm.
  const std::vector<CpuidDifference>& cpuid_differences() const { return cpuid_differences_; }
  // The rate of the guest's TSC, as KVM reads it back.
  std::uint32_t tsc_khz() const { return tsc_khz_; }
  // Whether KVM takes the guest's TSC for another than RDTSC gives the guest (looked at where our
  // LAPICs have a TSC-deadline timer): such timers then come too late.
  bool tsc_lost() const { return tsc_lost_; }
  VmTime now();
  // Where a debugger connects (--gdb): what follows gdb's `target remote`. Empty without, and where
  // it is connected from the start.
  std::string debugger_name() const;
  // --on-crash gdb, after run() ended with is_death(): the guest is the debugger's to look at until
  // that lets go of it, or a signal comes. `vcpu` died, with these registers, and `exit_code` is
  // what the monitor is going to end with; `card` says why.
  Result<void> keep_for_debugger(unsigned vcpu, const CpuState& registers, int exit_code,
                                 std::string card);
  // The file of --trace; null without one.
  const TraceFile* trace() const { return trace_.get(); }
  // Why KVM's events cannot be read, with --kvm-trace; empty where they can, or need not.
  const std::string& kvm_trace_problem() const { return kvm_trace_problem_; }
  // After run(), with --kvm-trace: what KVM told, without its counters.
  const std::optional<KvmExits>& kvm_exits() const { return kvm_exits_; }
  // After run(): how often the host could not do with --vars what the guest wanted.
  std::uint64_t vars_failures() const {
    return vars_failures_ + (vars_ != nullptr ? vars_->failures() : 0);
  }
  // After run(): for each disk, what its file or directory has to tell.
  const std::vector<std::vector<std::string>>& disk_notes() const { return disk_notes_; }
  // How often the machine has started again, and what asked for the last time.
  struct Resets {
    std::uint64_t count = 0;
    std::string last;
  };
  const Resets& resets() const { return resets_; }
  // The verdict lines on the serial console, with --compat kvm-unit-tests.
  std::optional<TestVerdicts> test_verdicts();

 private:
  // Where everything comes from, again at a reset.
  struct Source {
    const Kvm& kvm;
    ResolvedCpu cpu;
    HostGrant host;
    const LoadedImage& image;
  };
  Machine(const MachineSpec& spec, GuestMemory memory, Source source);
  void describe_board(IrqChipKind kind);
  bool has_firmware() const { return source_.image.protocol == BootProtocol::Firmware; }
  Result<void> add_firmware();
  Result<std::optional<CpuState>> fill_memory();
  Result<void> permit_xstate() const;
  Result<void> create_vm(IrqChipKind kind);
  Result<void> create_vcpus();
  Result<void> set_tsc_rate(Vcpu& vcpu);
  Result<bool> tsc_deadline_exits();
  Result<void> set_entry_state(const std::optional<CpuState>& start);
  Result<void> set_cpu(unsigned vcpu);
  Result<void> open_vars(const LoadedImage& firmware);
  std::span<const SeccompThread> flash_rules() const;
  Result<void> open_disks();
  Result<void> start_disks();
  Result<void> open_outside();
  Result<std::unique_ptr<Board>> make_board();
  Step handle(const Exit& exit, unsigned vcpu, Gva rip);
  Step debug_step(Board& board, const Exit& exit, unsigned vcpu, Gva rip, Step step);
  bool is_behind_halt(unsigned vcpu, Gva pc);
  Result<VcpuThreads::Next> before_run(unsigned vcpu);
  void note_entry(unsigned vcpu);
  Result<void> check_trace_devices(const Board& board) const;
  void open_kvm_trace();
  void begin_kvm_trace();
  void drain_traces();
  void finish_traces();
  void kvm_trace_failed(const Error& error);
  Result<void> restart(unsigned vcpu, const EntryPlan& plan);
  VmTime until_tsc(unsigned vcpu, std::uint64_t tsc);
  void hear_deadline(Board& board);
  void suspend();
  Result<void> wake_from_s3();
  void end_by_device(Board& board, RunOutcome outcome);
  bool may_reset() const;
  Result<void> serve_reset();
  Result<void> start_again(std::string asked_by);
  Result<void> rebuild();
  Result<void> event_loop(LiveScreen* screen, Keyboard* keyboard);
  void type(Keyboard& keyboard);
  void remember_model(const ResolvedCpu& cpu, const HostGrant& host);
  template <typename OnLapic, typename OnBus>
  Result<std::string> access_mmio(unsigned vcpu, Gpa gpa, std::size_t size, const OnLapic& on_lapic,
                                  const OnBus& on_bus);
  std::uint32_t mp_state_of(unsigned vcpu, std::uint32_t kvms);
  Result<void> open_debugger(const Kvm& kvm, const LoadedImage& image);
  Result<void> open_catcher(const LoadedImage& image, const ResolvedCpu& cpu);
  VgaSnapshot screen_of(Board& board) const;
  bool hear_catch(const CaughtEvent& event);
  Result<void> open_control();
  Result<MonitorAnswer> control(std::string_view line);
  Result<MonitorAnswer> peek_beside_debugger(std::string_view line, unsigned vcpu);
  Result<void> start_guest();
  bool is_kept() const;
  Result<void> serve_debugger(const std::vector<pollfd>& fds);
  Result<void> serve_stops();
  Result<void> await_step();
  Result<bool> hear_signal();
  std::chrono::nanoseconds serve_deadlines();
  bool halted_for_ever();
  bool paused();
  std::vector<bool> everyone() const { return std::vector<bool>(vcpu_count(), true); }
  void stop();
  Result<void> power_on(unsigned vcpu, const CpuState& start);
  CpuState power_on_registers(Board& board, unsigned vcpu);
  Result<void> hold_time();
  Result<void> release_time();
  Result<bool> restore_tscs(const std::vector<VcpuTime>& vcpus);
  Result<void> restore_lapic_timer(unsigned vcpu, const VcpuTime& time, bool tsc_held);
  template <typename Visit>
  Result<void> visit_state(Board& board, Visit&& visit);
  Result<bool> can_wake_masked(unsigned vcpu);
  bool hypervisor_can_wake(unsigned vcpu);
  // An interrupt that KVM did not take (none, on a working host).
  void count_failure(const Result<void>& result) { irq_failures_ += result ? 0 : 1; }
  void wake();
  void look_for_kernel(const Exit& exit, unsigned vcpu);
  void forget_kernel();

  MachineSpec spec_;
  Source source_;
  GuestMemory memory_;
  SymbolTable symbols_;
  std::atomic<bool> may_move_{false};           // they are of a Linux, and where it is, is unknown
  std::atomic<std::uint32_t> kernel_exits_{0};  // since it was last looked for
  std::atomic<std::uint32_t> kernel_look_at_{1};
  BoardDescription description_;           // what ACPI tables say
  std::optional<FirmwareItems> firmware_;  // with --firmware: what it finds in fw_cfg
  FirmwareKind firmware_kind_ = FirmwareKind::OvmfCode;
  std::unique_ptr<FlashFile> vars_;  // with --vars
  Gpa vars_base_ = 0;
  std::uint64_t vars_failures_ = 0;  // of KVM's memory for it, or of the last sync
  Fd wake_;
  Fd signals_;
  std::unique_ptr<Vm> vm_;
  IrqChipKind irqchip_ = IrqChipKind::User;
  std::string irqchip_reason_;
  std::unique_ptr<KernelIrqChip> kernel_chip_;  // where the LAPICs are KVM's
  unsigned irq_failures_ = 0;
  std::atomic<bool> suspended_{false};    // S3: no vCPU runs
  std::atomic<bool> reset_asked_{false};  // by the guest, with --on-reset reboot: no vCPU runs
  Resets resets_;
  std::uint32_t tsc_khz_ = 0;
  bool tsc_deadline_ = false;  // our LAPICs have that timer
  bool tsc_lost_ = false;
  // Of a vCPU that died where KVM has reset it since (SVM): what it had before.
  std::optional<std::pair<unsigned, CpuState>> dead_;
  std::optional<std::string> card_;  // why it died, while it is kept
  bool released_ = false;            // by the debugger
  std::uint32_t signature_ = 0;      // CPUID.1.EAX
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  CpuidTable guest_cpuid_;
  std::map<std::uint32_t, std::uint64_t> guest_msrs_;
  MachineAbout about_;  // the model and the host; the rest is filled in when it is asked for
  DebugSupport debug_support_;
  std::vector<DebugControl> debug_controls_;  // of each vCPU; written while paused
  // Of each vCPU, and touched by its thread alone.
  struct StepNote {
    std::uint64_t from = 0;  // RIP before the last step
    bool late_halt = false;  // KVM will report a HLT that was stepped when nobody steps any more
  };
  std::vector<StepNote> step_notes_;
  std::vector<CpuidDifference> cpuid_differences_;
  std::vector<std::unique_ptr<BlockBackend>> disks_;
  std::vector<std::vector<std::string>> disk_notes_;  // of each, once run() has ended
  std::unique_ptr<Console> console_;
  std::unique_ptr<VerdictCounter> verdicts_;
  std::unique_ptr<TerminalScreen> terminal_screen_;  // with --firmware, whose screen it is
  std::unique_ptr<TraceFile> trace_;
  std::unique_ptr<KvmTrace> kvm_trace_;  // with --kvm-trace, where it can be had
  std::string kvm_trace_problem_;
  std::optional<KvmExits> kvm_exits_;  // once run() has ended
  Guarded<std::unique_ptr<Board>> board_;
  VmTime armed_deadline_ = VmTime::max();  // what the event loop sleeps for; under the board's lock
  std::unique_ptr<VcpuThreads> threads_;
  std::unique_ptr<DiskThread> disk_thread_;  // where there are disks
  std::unique_ptr<DebugSession> debugger_;   // with --gdb or --catch
  std::unique_ptr<Catcher> catcher_;         // with --catch; its breakpoints are the debugger's
  std::uint64_t untold_catches_ = 0;         // since stderr took the last one
  std::unique_ptr<ControlSession> control_;  // with --ctl
  // Stops of vCPUs that the event loop has not seen yet.
  Guarded<std::vector<std::pair<unsigned, DebugStop>>> debug_stops_;
  std::atomic<bool> has_stopped_{false};  // there is one in debug_stops_
  std::atomic<bool> awaits_step_{false};  // the event loop looks at that without being woken
  // Whoever stops the vCPUs holds this; no vCPU's thread takes it. In front of the board's lock.
  std::mutex rest_;
  // What the guest's clocks in KVM said when the machine was paused; nothing while it runs.
  std::optional<HeldTime> held_;
  std::vector<std::string> moving_clocks_;
  // As KVM made them, before the first instruction.
  std::vector<VcpuState> power_on_;
  VmState vm_power_on_;
};

}  // namespace vmm
