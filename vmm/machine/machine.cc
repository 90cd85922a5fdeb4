#include "vmm/machine/machine.h"

#include <fmt/format.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "loader/acpi_tables.h"
#include "loader/firmware_tables.h"
#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/base/log.h"
#include "vmm/machine/processor_reset.h"
#include "vmm/machine/screen.h"
#include "vmm/machine/seccomp.h"
#include "vmm/machine/terminal.h"
#include "vmm/machine/trace_file.h"

namespace vmm {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr std::uint32_t kIa32TscDeadline = 0x6e0;
constexpr unsigned kTscDeadlineBit = 24;  // CPUID.1.ECX
constexpr std::uint8_t kKvmIoapicVersion = 0x11;
constexpr long kNanosecondsPerSecond = 1'000'000'000;

// How often the event loop looks whether the machine is halted for ever: soon at first, because a
// guest that dies early should be told early, then rarely.
constexpr milliseconds kFirstLook{40};
constexpr milliseconds kLaterLook{250};
constexpr unsigned kEarlyLooks = 5;
constexpr milliseconds kScreenRefresh{40};
// How long a console that nobody reads may hold up the end.
constexpr double kFlushSeconds = 5;
// And a terminal that does not take the end of a picture.
constexpr double kFinishSeconds = 1;

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  return set;
}

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

Machine::Machine(const MachineSpec& spec, GuestMemory memory)
    : spec_(spec), memory_(std::move(memory)) {}

Machine::~Machine() = default;

Result<std::unique_ptr<Machine>> Machine::create(const Kvm& kvm, const MachineSpec& spec,
                                                 const ResolvedCpu& cpu, const HostGrant& host,
                                                 const IrqChipChoice& irqchip,
                                                 const LoadedImage& image) {
  std::unique_ptr<Machine> machine(
      new Machine(spec, VMM_TRY(GuestMemory::create(spec.memory, spec.vga.trap))));
  machine->symbols_ = image.symbols;
  machine->irqchip_reason_ = irqchip.reason;
  VMM_TRY(machine->place_firmware(cpu, irqchip.kind));
  const CpuState start = VMM_TRY(place_image(image, spec.boot, machine->memory_));
  VMM_TRY(machine->create_vm(kvm, cpu, host, irqchip.kind));
  machine->tsc_deadline_ =
      irqchip.kind == IrqChipKind::User && cpu.cpuid.bit(1, 0, CpuidReg::Ecx, kTscDeadlineBit);
  if (machine->tsc_deadline_ && !VMM_TRY(machine->tsc_deadline_exits())) {
    constexpr std::string_view kReason =
        "this host's KVM keeps writes to IA32_TSC_DEADLINE to itself";
    if (!irqchip.may_change)
      return fail(Error::host(fmt::format("--irqchip user cannot carry tsc-deadline (1.ECX[24]) of "
                                          "{}: {}",
                                          cpu.text, kReason))
                      .hint("--irqchip split has KVM's LAPIC; --cpu-model ...,-tsc-deadline does "
                            "without"));
    machine->tsc_deadline_ = false;
    machine->irqchip_reason_ = kReason;
    VMM_TRY(machine->create_vm(kvm, cpu, host, IrqChipKind::Split));
  }
  VMM_TRY(machine->open_outside());
  VMM_TRY(machine->set_entry_state(start));
  return machine;
}

// What a firmware would leave in memory, before an image that may be loaded over it.
Result<void> Machine::place_firmware(const ResolvedCpu& cpu, IrqChipKind kind) {
  BoardDescription board;
  for (unsigned i = 0; i < spec_.topology.vcpus; ++i)
    board.apic_ids.push_back(apic_id_of_vcpu(spec_.topology, i));
  board.io_apic_version = kind == IrqChipKind::Kernel ? kKvmIoapicVersion : spec_.ioapic_version;
  board.cpu_signature = cpu.cpuid.get(1).eax;
  board.cpu_features = cpu.cpuid.get(1).edx;
  place_bios_stub(memory_);
  return place_firmware_tables(memory_, board);
}

// The VM with its vCPUs, memory mapped; a former one goes.
Result<void> Machine::create_vm(const Kvm& kvm, const ResolvedCpu& cpu, const HostGrant& host,
                                IrqChipKind kind) {
  vcpus_.clear();
  kernel_chip_.reset();
  irqchip_ = kind;
  // kvm-unit-tests ask for KVM as it comes; on kvm_pvm a hypercall of the other vendor's kind would
  // never come back then.
  const bool quirks = spec_.compat_kvm_unit_tests && host.backend != KvmBackend::Pvm;
  vm_ = VMM_TRY(Vm::create(kvm, kind, quirks));
  VMM_TRY(vm_->map(memory_));
  // As the board does with chips of its own.
  if (kind == IrqChipKind::Kernel && spec_.testdev) VMM_TRY(vm_->set_bios_defaults());
  if (kind != IrqChipKind::User) kernel_chip_ = std::make_unique<KernelIrqChip>(*vm_, kind);
  VMM_TRY(create_vcpus(cpu, host));
  signature_ = cpu.cpuid.get(1).eax;
  return {};
}

Result<void> Machine::create_vcpus(const ResolvedCpu& cpu, const HostGrant& host) {
  std::vector<Vcpu*> pointers;
  for (unsigned i = 0; i < spec_.topology.vcpus; ++i) {
    vcpus_.push_back(VMM_TRY(vm_->create_vcpu(apic_id_of_vcpu(spec_.topology, i))));
    pointers.push_back(vcpus_.back().get());
    VMM_TRY(set_cpu(i, cpu, host));
  }
  if (kernel_chip_ != nullptr) kernel_chip_->attach(std::move(pointers));
  return {};
}

// Whether a guest's write to IA32_TSC_DEADLINE comes to us, asked of vCPU 0 before its life begins:
// without a LAPIC of its own KVM drops the write, unless the MSR filter comes first. On VMX it may
// take a path that looks at no filter (platform of the host's kernel).
Result<bool> Machine::tsc_deadline_exits() {
  constexpr Gpa kProbe = 0x1000;
  constexpr std::array<std::uint8_t, 3> kCode = {0x0f, 0x30, 0xf4};  // wrmsr; hlt
  Vcpu& vcpu = *vcpus_[0];
  tsc_khz_ = VMM_TRY(vcpu.tsc_khz());
  VMM_TRY(vm_->filter_msr(kIa32TscDeadline));
  std::array<std::uint8_t, kCode.size()> kept{};
  VMM_CHECK(memory_.read(kProbe, kept) && memory_.write(kProbe, kCode), "low memory is RAM");
  const CpuState before = VMM_TRY(vcpu.state());
  CpuState probe = before;
  probe.regs.rip = 0;
  probe.regs.rcx = kIa32TscDeadline;
  probe.regs.rax = 1;
  start_at(probe, kProbe >> 12);
  VMM_TRY_CONTEXT(vcpu.set_state(probe), "probe IA32_TSC_DEADLINE");
  bool exits = false;
  // A signal may come first; nothing else leads anywhere but to one of two exits.
  for (int attempt = 0; attempt < 10; ++attempt) {
    const Exit exit = VMM_TRY_CONTEXT(vcpu.run(), "probe IA32_TSC_DEADLINE");
    if (std::holds_alternative<Interrupted>(exit)) continue;
    const auto* write = std::get_if<MsrWrite>(&exit);
    exits = write != nullptr && write->index == kIa32TscDeadline;
    break;
  }
  [[maybe_unused]] const Exit settled = VMM_TRY_CONTEXT(vcpu.settle(), "probe IA32_TSC_DEADLINE");
  VMM_TRY_CONTEXT(vcpu.set_state(before), "probe IA32_TSC_DEADLINE");
  VMM_CHECK(memory_.write(kProbe, kept), "low memory is RAM");
  return exits;
}

// vCPU 0 enters the image; the others wait for INIT and SIPI, as KVM's LAPIC leaves them or ours
// says.
Result<void> Machine::set_entry_state(const CpuState& start) {
  auto board = board_.lock();
  UserIrqChip* chip = (*board)->user_chip();
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    if (i > 0 && chip == nullptr) break;
    CpuState state = VMM_TRY(vcpus_[i]->state());
    // The APIC base is the LAPIC's; the loader decides about segments, tables and control
    // registers.
    const std::uint64_t apic_base = chip != nullptr ? chip->lapic(i).base() : state.sregs.apic_base;
    if (i == 0) {
      state.regs = start.regs;
      state.sregs = start.sregs;
    }
    state.sregs.apic_base = apic_base;
    VMM_TRY_CONTEXT(vcpus_[i]->set_state(state), fmt::format("set the entry state of vCPU {}", i));
  }
  return {};
}

// Gives a vCPU its CPUID and MSRs and looks at what KVM made of them. The order matters: quirks
// (Vm::create) decide what either begins with; MSRs that depend on the CPUID read as 0 before it is
// there (Linux 6.13), and setting it rewrites some of them.
Result<void> Machine::set_cpu(unsigned index, const ResolvedCpu& cpu, const HostGrant& host) {
  Vcpu& vcpu = *vcpus_[index];
  const CpuidTable wanted = cpuid_of_vcpu(cpu, spec_.topology, index);
  VMM_TRY(vcpu.set_cpuid(wanted));
  for (const CpuMsr& msr : cpu.msrs)
    VMM_TRY_CONTEXT(vcpu.set_msr(msr.index, msr.value), "--cpu-model " + cpu.text);

  CpuidTable read = VMM_TRY(vcpu.cpuid());
  auto differences = unexpected_differences(wanted, read);
  // kvm_pvm cannot intercept CPUID in the guest's ring 3 and puts the processor's own feature words
  // into what the guest sees; no choice of ours changes that.
  if (!differences.empty() && host.backend != KvmBackend::Pvm) {
    const CpuidDifference& first = differences.front();
    return fail(
        Error::host(fmt::format("KVM changed the CPUID of vCPU {} after it was set: {} was {:08x}h "
                                "and reads back {:08x}h ({} words differ)",
                                index, cpuid_word_name(first.key, first.reg), first.left,
                                first.right, differences.size()))
            .hint("this host cannot give the model exactly; --cpu-model host is what it can give"));
  }
  for (const CpuMsr& msr : cpu.msrs) {
    const std::uint64_t value = VMM_TRY(vcpu.msr(msr.index));
    if (value != msr.value)
      return fail(Error::host(
          fmt::format("KVM changed MSR {:x}h of vCPU {}: {:x}h was set, {:x}h reads back",
                      msr.index, index, msr.value, value)));
  }
  if (index == 0) {
    guest_cpuid_ = std::move(read);
    cpuid_differences_ = std::move(differences);
  }
  return {};
}

Result<void> Machine::open_outside() {
  wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return fail(Error::system(ErrorKind::Internal, "eventfd", errno));
  if (!spec_.trace.empty()) {
    trace_ = VMM_TRY(JsonTraceFile::create(spec_.trace, &symbols_, [this] { wake(); }));
  }
  console_ = VMM_TRY(Console::open(spec_.serial, [this] { wake(); }));
  Board::Wiring wiring;
  wiring.irqchip = irqchip_;
  wiring.kernel_irq = kernel_chip_.get();
  wiring.wake = [this](unsigned vcpu) {
    if (threads_ != nullptr) threads_->wake(vcpu);
  };
  wiring.send = [this](const ApicMessage& message) { count_failure(vm_->send(message)); };
  wiring.routes_changed = [this](std::span<const std::optional<ApicMessage>> pins) {
    count_failure(vm_->set_routes(pins));
  };
  for (unsigned i = 0; i < vcpu_count(); ++i)
    wiring.apic_ids.push_back(apic_id_of_vcpu(spec_.topology, i));
  wiring.tsc_deadline = tsc_deadline_;
  wiring.until_tsc = [this](unsigned vcpu, std::uint64_t tsc) { return until_tsc(vcpu, tsc); };
  wiring.ioapic_version = spec_.ioapic_version;
  wiring.vcpus = vcpu_count();
  wiring.memory = &memory_;
  wiring.start_seconds = std::time(nullptr);
  wiring.testdev = spec_.testdev;
  wiring.suspend = [this] { suspend(); };
  wiring.serial_out = &console_->output();
  if (spec_.compat_kvm_unit_tests) {
    verdicts_ = std::make_unique<VerdictCounter>(console_->output());
    wiring.serial_out = verdicts_.get();
  }
  wiring.serial_in = &console_->input();
  wiring.debugcon_out = &console_->output();
  wiring.vga_window = memory_.vga_window();
  wiring.vga_trap = spec_.vga.trap;
  auto board = board_.lock();
  *board = VMM_TRY(Board::create(wiring));
  (*board)->trace = trace_ != nullptr ? &trace_->tracer() : nullptr;
  return {};
}

void Machine::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

Step Machine::handle(const Exit& exit, unsigned vcpu, Gva rip) {
  auto board = board_.lock();
  if (UserIrqChip* chip = (*board)->user_chip())
    chip->after_exit(vcpu, vcpus_[vcpu]->entry_state());
  const Step step = handle_exit(exit, **board, vcpu, rip);
  // The exit may have been a write to the TPR: before_run() must not take CR8 for the newer of
  // both.
  if (UserIrqChip* chip = (*board)->user_chip())
    vcpus_[vcpu]->set_cr8(static_cast<std::uint8_t>(chip->lapic(vcpu).tpr() >> 4));
  hear_deadline(**board);
  return step;
}

// A device that now wants to be called before the event loop meant to look has to be heard.
void Machine::hear_deadline(Board& board) {
  const auto deadline = board.next_deadline();
  if (!deadline || *deadline >= armed_deadline_) return;
  armed_deadline_ = *deadline;
  wake();
}

Result<VcpuThreads::Next> Machine::before_run(unsigned index) {
  using Next = VcpuThreads::Next;
  Vcpu& vcpu = *vcpus_[index];
  if (suspended_) return Next::Wait;
  EntryPlan plan;
  {
    if (irqchip_ == IrqChipKind::Kernel || (irqchip_ == IrqChipKind::Split && index != 0))
      return Next::Run;
    auto board = board_.lock();
    const EntryState state = vcpu.entry_state();
    if (UserIrqChip* chip = (*board)->user_chip()) chip->after_exit(index, state);
    plan = (*board)->before_entry(index, state);
    hear_deadline(**board);
  }
  if (plan.init || plan.sipi) {
    VMM_TRY(restart(index, plan));
    if (!plan.wait) VMM_TRY(vcpu.prepare(plan));
    return plan.wait ? Next::Wait : Next::Again;
  }
  if (plan.wait) return Next::Wait;
  VMM_TRY(vcpu.prepare(plan));
  return Next::Run;
}

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
  threads_->pause();
  std::array<std::uint8_t, 4> vector{};
  VMM_CHECK(memory_.read(kFacs + kFacsWakingVector, vector), "the FACS is in RAM");
  const auto waking = load<std::uint32_t>(vector, 0);
  if (waking == 0 || waking >= 1_MiB) {
    threads_->end(ending::Reset{fmt::format(
        "wake-up from S3, but the FACS has no waking vector below 1 MiB ({:x}h)", waking)});
    return {};
  }
  (*board_.lock())->wake_up();
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    CpuState state = after_init(VMM_TRY(vcpus_[i]->state()), signature_);
    state.sregs.cr0 = spec::CR0_ET;
    if (i == 0) {
      // CS:IP of a physical address (5.2.10): the segment has its bits 19:4.
      state.sregs.cs.selector = static_cast<std::uint16_t>(waking >> 4);
      state.sregs.cs.base = waking & ~0xfu;
      state.regs.rip = waking & 0xf;
    } else if (kernel_chip_ != nullptr) {
      state.mp_state = KVM_MP_STATE_UNINITIALIZED;
    }
    VMM_TRY_CONTEXT(vcpus_[i]->set_state(state), "wake from S3");
  }
  suspended_ = false;
  threads_->resume();
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

// How long until the TSC of `vcpu`, which asks for it, is at `tsc`.
VmTime Machine::until_tsc(unsigned vcpu, std::uint64_t tsc) {
  constexpr auto kLongest = std::chrono::hours(24 * 365);
  const auto now = vcpus_[vcpu]->tsc();
  if (!now || tsc <= *now) return VmTime{0};
  // Whole milliseconds apart, so that nothing overflows; far away is as good as a year.
  const std::uint64_t khz = std::max(tsc_khz_, 1u);
  const std::uint64_t ticks = tsc - *now;
  const std::uint64_t milliseconds_left = ticks / khz;
  if (milliseconds_left >= static_cast<std::uint64_t>(milliseconds(kLongest).count()))
    return kLongest;
  return milliseconds(milliseconds_left) + nanoseconds(ticks % khz * 1'000'000 / khz);
}

// Brings the devices to now and says how long the event loop may sleep on their behalf.
nanoseconds Machine::serve_deadlines() {
  auto board = board_.lock();
  const VmTime now = (*board)->clock.now();
  auto deadline = (*board)->next_deadline();
  if (deadline && *deadline <= now) {
    (*board)->advance();
    deadline = (*board)->next_deadline();
  }
  armed_deadline_ = deadline.value_or(VmTime::max());
  if (!deadline) return nanoseconds::max();
  return std::max(*deadline - (*board)->clock.now(), VmTime::zero());
}

std::optional<TestVerdicts> Machine::test_verdicts() {
  if (verdicts_ == nullptr) return std::nullopt;
  const auto board = board_.lock();
  return verdicts_->verdicts();
}

VmTime Machine::now() { return (*board_.lock())->clock.now(); }

Result<void> Machine::pause() {
  threads_->pause();
  (*board_.lock())->clock.pause();
  return {};
}

Result<void> Machine::resume() {
  (*board_.lock())->clock.resume();
  threads_->resume();
  return {};
}

// Where the LAPIC is ours KVM knows vCPUs that run and nothing else.
Result<CpuState> Machine::cpu_state(unsigned vcpu) {
  CpuState state = VMM_TRY(vcpus_[vcpu]->state());
  auto board = board_.lock();
  if (const UserIrqChip* chip = (*board)->user_chip()) {
    switch (chip->activity(vcpu)) {
      case UserIrqChip::Activity::Running:
        break;
      case UserIrqChip::Activity::Halted:
        state.mp_state = KVM_MP_STATE_HALTED;
        break;
      case UserIrqChip::Activity::WaitForSipi:
        state.mp_state = KVM_MP_STATE_UNINITIALIZED;
        break;
    }
  }
  return state;
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
  if (!pause()) return false;
  bool dead = true;
  for (unsigned i = 0; i < vcpu_count() && dead; ++i) {
    const auto state = cpu_state(i);
    const auto other = can_wake_masked(i);
    dead = state && other && waits_for_ever(*state, *other);
  }
  if (!dead) (void)resume();
  return dead;
}

Result<RunOutcome> Machine::run() {
  install_kick_handler();
  signal(SIGPIPE, SIG_IGN);
  const sigset_t stops = stop_signals();
  pthread_sigmask(SIG_BLOCK, &stops, nullptr);
  signals_ = Fd(signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail(Error::system(ErrorKind::Internal, "signalfd", errno));
  // One heap for all threads: glibc looks into /proc when it shrinks another thread's, and behind
  // the filter no file can be opened.
  mallopt(M_ARENA_MAX, 1);
  std::unique_ptr<LiveScreen> screen;
  if (spec_.vga.kind == VgaKind::Text && LiveScreen::possible())
    screen = std::make_unique<LiveScreen>(STDOUT_FILENO);

  std::vector<VcpuBackend*> backends;
  for (const auto& vcpu : vcpus_) backends.push_back(vcpu.get());
  VcpuThreads::Hooks hooks;
  hooks.started = [this](unsigned vcpu) -> Result<void> {
    vcpus_[vcpu]->bind_to_this_thread();
    return enter_seccomp(SeccompThread::Vcpu);
  };
  hooks.handle = [this](const Exit& exit, unsigned vcpu, Gva rip) {
    return handle(exit, vcpu, rip);
  };
  hooks.before_run = [this](unsigned vcpu) { return before_run(vcpu); };
  hooks.ended = [this] { wake(); };
  threads_ = std::make_unique<VcpuThreads>(std::move(backends), std::move(hooks));
  VMM_TRY(threads_->start());
  VMM_TRY(enter_seccomp(SeccompThread::Main));
  VMM_TRY(resume());
  VMM_TRY(event_loop(screen.get()));
  VMM_TRY(pause());
  if (trace_ != nullptr) trace_->drain();
  console_->flush(kFlushSeconds);
  if (screen != nullptr) screen->finish(kFinishSeconds);
  restore_terminal();
  return *threads_->ending();
}

Result<void> Machine::event_loop(LiveScreen* screen) {
  using clock = std::chrono::steady_clock;
  const auto started = clock::now();
  const auto seconds_since = [](clock::time_point then) {
    return std::chrono::duration<double>(clock::now() - then).count();
  };
  clock::time_point last_look = started;
  clock::time_point last_progress = started;
  std::uint64_t seen_exits = 0;
  unsigned looks = 0;
  while (!threads_->ending()) {
    std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    console_->add_poll(fds);
    nanoseconds wait = looks < kEarlyLooks ? kFirstLook : kLaterLook;
    if (screen != nullptr) wait = std::min<nanoseconds>(wait, kScreenRefresh);
    for (const double limit : {spec_.timeout, spec_.stall_timeout})
      if (limit > 0)
        wait = std::min<nanoseconds>(wait, milliseconds(static_cast<long>(limit * 1000) + 1));
    wait = std::min(wait, serve_deadlines());
    const timespec timeout{.tv_sec = wait.count() / kNanosecondsPerSecond,
                           .tv_nsec = wait.count() % kNanosecondsPerSecond};
    if (::ppoll(fds.data(), fds.size(), &timeout, nullptr) < 0 && errno != EINTR)
      return fail(Error::system(ErrorKind::Internal, "ppoll", errno));

    if (fds[0].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &count, sizeof count);
    }
    if (fds[1].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signals_.get(), &info, sizeof info) == sizeof info)
        threads_->end(ending::Stopped{static_cast<int>(info.ssi_signo)});
    }
    switch (console_->serve(fds)) {
      case Console::Event::None:
        break;
      case Console::Event::Input:
        (*board_.lock())->advance();
        break;
      case Console::Event::Quit:
        threads_->end(ending::Quit{});
        break;
    }
    if (suspended_ && (*board_.lock())->wake_requested()) VMM_TRY(wake_from_s3());
    if (trace_ != nullptr) trace_->drain();
    if (screen != nullptr) screen->show((*board_.lock())->vga().snapshot());

    if (spec_.timeout > 0 && seconds_since(started) >= spec_.timeout)
      threads_->end(ending::TimedOut{spec_.timeout});
    const auto now = clock::now();
    if (now - last_look < (looks < kEarlyLooks ? kFirstLook : kLaterLook)) continue;
    last_look = now;
    ++looks;
    if (const std::uint64_t exits = threads_->exits(); exits != seen_exits) {
      seen_exits = exits;
      last_progress = now;
    } else if (!threads_->ending() && halted_for_ever()) {
      threads_->end(ending::HaltedForever{});
    }
    if (spec_.stall_timeout > 0 && seconds_since(last_progress) >= spec_.stall_timeout)
      threads_->end(ending::Stalled{spec_.stall_timeout});
  }
  return {};
}

}  // namespace vmm
