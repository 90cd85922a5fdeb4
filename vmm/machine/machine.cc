#include "vmm/machine/machine.h"

#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/base/log.h"
#include "vmm/machine/screen.h"
#include "vmm/machine/seccomp.h"
#include "vmm/machine/terminal.h"
#include "vmm/machine/trace_file.h"

namespace vmm {
namespace {

using std::chrono::milliseconds;

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
                                                 const LoadedImage& image) {
  std::unique_ptr<Machine> machine(
      new Machine(spec, VMM_TRY(GuestMemory::create(spec.memory, spec.vga.trap))));
  machine->symbols_ = image.symbols;
  const CpuState start = VMM_TRY(place_image(image, spec.boot, machine->memory_));
  machine->vm_ = VMM_TRY(Vm::create(kvm));
  machine->irqchip_ = VMM_TRY(KernelIrqChip::create(*machine->vm_));
  VMM_TRY(machine->vm_->map(machine->memory_));
  VMM_TRY(machine->create_vcpus(cpu, host));
  // The other vCPUs wait for INIT and SIPI, as KVM's LAPIC leaves them.
  CpuState boot = VMM_TRY(machine->vcpus_[0]->state());
  boot.regs = start.regs;
  // APIC base and the like are KVM's; the loader decides about segments, tables and control
  // registers.
  const std::uint64_t apic_base = boot.sregs.apic_base;
  boot.sregs = start.sregs;
  boot.sregs.apic_base = apic_base;
  VMM_TRY_CONTEXT(machine->vcpus_[0]->set_state(boot), "set the entry state of vCPU 0");
  VMM_TRY(machine->open_outside());
  return machine;
}

Result<void> Machine::create_vcpus(const ResolvedCpu& cpu, const HostGrant& host) {
  std::vector<Vcpu*> pointers;
  for (unsigned i = 0; i < spec_.topology.vcpus; ++i) {
    vcpus_.push_back(VMM_TRY(vm_->create_vcpu(apic_id_of_vcpu(spec_.topology, i))));
    pointers.push_back(vcpus_.back().get());
    VMM_TRY(set_cpu(i, cpu, host));
  }
  irqchip_->attach(std::move(pointers));
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
  auto board = board_.lock();
  *board = VMM_TRY(Board::create({.irq = irqchip_.get(),
                                  .serial_out = &console_->output(),
                                  .serial_in = &console_->input(),
                                  .debugcon_out = &console_->output(),
                                  .vga_window = memory_.vga_window(),
                                  .vga_trap = spec_.vga.trap}));
  (*board)->trace = trace_ != nullptr ? &trace_->tracer() : nullptr;
  return {};
}

void Machine::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

Step Machine::handle(const Exit& exit, unsigned vcpu, Gva rip) {
  auto board = board_.lock();
  const Step step = handle_exit(exit, **board, vcpu, rip);
  // A device that now wants to be called before the event loop meant to look has to be heard.
  if (const auto deadline = (*board)->next_deadline(); deadline && *deadline < armed_deadline_) {
    armed_deadline_ = *deadline;
    wake();
  }
  return step;
}

// Brings the devices to now and says how long the event loop may sleep on their behalf.
milliseconds Machine::serve_deadlines() {
  auto board = board_.lock();
  const VmTime now = (*board)->clock.now();
  auto deadline = (*board)->next_deadline();
  if (deadline && *deadline <= now) {
    (*board)->advance();
    deadline = (*board)->next_deadline();
  }
  armed_deadline_ = deadline.value_or(VmTime::max());
  if (!deadline) return milliseconds::max();
  return std::chrono::ceil<milliseconds>(std::max(*deadline - now, VmTime::zero()));
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

Result<CpuState> Machine::cpu_state(unsigned vcpu) { return vcpus_[vcpu]->state(); }

Result<void> Machine::set_cpu_state(unsigned vcpu, const CpuState& state) {
  return vcpus_[vcpu]->set_state(state);
}

bool Machine::write_memory(Gpa gpa, std::span<const std::uint8_t> data) {
  return memory_.write(gpa, data);
}

// All vCPUs stopped at one moment: what one of them could still send is already delivered, so the
// answer holds for good.
bool Machine::halted_for_ever() {
  if (!pause()) return false;
  bool dead = true;
  for (unsigned i = 0; i < vcpu_count() && dead; ++i) {
    const auto state = cpu_state(i);
    const auto other = irqchip_->can_wake_masked(i);
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
    milliseconds wait = looks < kEarlyLooks ? kFirstLook : kLaterLook;
    if (screen != nullptr) wait = std::min(wait, kScreenRefresh);
    for (const double limit : {spec_.timeout, spec_.stall_timeout})
      if (limit > 0) wait = std::min(wait, milliseconds(static_cast<long>(limit * 1000) + 1));
    wait = std::min(wait, serve_deadlines());
    if (::poll(fds.data(), fds.size(), static_cast<int>(wait.count())) < 0 && errno != EINTR)
      return fail(Error::system(ErrorKind::Internal, "poll", errno));

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
