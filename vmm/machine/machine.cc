#include "vmm/machine/machine.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vmm/machine/catcher.h"
#include "vmm/machine/control_session.h"
#include "vmm/machine/debug_session.h"
#include "vmm/machine/keyboard.h"
#include "vmm/machine/kvm_trace.h"
#include "vmm/machine/screen.h"
#include "vmm/machine/seccomp.h"
#include "vmm/machine/terminal.h"
#include "vmm/machine/trace_file.h"

namespace vmm {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr long kNanosecondsPerSecond = 1'000'000'000;

// How often the event loop looks whether the machine is halted for ever: soon at first, because a
// guest that dies early should be told early, then rarely.
constexpr milliseconds kFirstLook{40};
constexpr milliseconds kLaterLook{250};
constexpr unsigned kEarlyLooks = 5;
constexpr milliseconds kScreenRefresh{40};
// So that KVM's events, of which a processor's buffer holds some ten thousand, find room.
constexpr milliseconds kKvmTraceLook{10};
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

bool binds_socket_files(const MachineSpec& spec) {
  return spec.ctl || (spec.gdb && spec.gdb->kind == DebugAddress::Kind::Unix);
}

}  // namespace

Machine::Machine(const MachineSpec& spec, GuestMemory memory, Source source)
    : spec_(spec), source_(std::move(source)), memory_(std::move(memory)) {}

// Either may wake the other until it has stopped.
Machine::~Machine() {
  if (threads_ != nullptr) threads_->stop();
  if (disk_thread_ != nullptr) disk_thread_->stop();
}

// Only a file needs system calls.
std::span<const SeccompThread> Machine::flash_rules() const {
  static constexpr SeccompThread kFlash[] = {SeccompThread::Flash};
  if (!spec_.vars || spec_.vars->mode != VarsSpec::Mode::Write) return {};
  return kFlash;
}

void Machine::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

Step Machine::handle(const Exit& exit, unsigned vcpu, Gva rip) {
  if (rip >= SymbolTable::kMovable) look_for_kernel(exit, vcpu);
  auto board = board_.lock();
  if (UserIrqChip* chip = (*board)->user_chip())
    chip->after_exit(vcpu, vcpus_[vcpu]->entry_state());
  if (std::holds_alternative<Halt>(exit) && std::exchange(step_notes_[vcpu].late_halt, false) &&
      !is_behind_halt(vcpu, rip))
    return step::Continue{};
  Step step = handle_exit(exit, **board, vcpu, rip);
  if (const auto* stop = std::get_if<step::Stop>(&step);
      stop != nullptr && spec_.on_reset == OnReset::Reboot &&
      std::holds_alternative<ending::Reset>(stop->outcome)) {
    end_by_device(**board, stop->outcome);
    step = step::Continue{};
  }
  // The exit may have been a write to the TPR: before_run() must not take CR8 for the newer of
  // both.
  if (UserIrqChip* chip = (*board)->user_chip())
    vcpus_[vcpu]->set_cr8(static_cast<std::uint8_t>(chip->lapic(vcpu).tpr() >> 4));
  hear_deadline(**board);
  return debug_step(**board, exit, vcpu, rip, std::move(step));
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
  if (suspended_ || reset_asked_) return Next::Wait;
  EntryPlan plan;
  {
    if (irqchip_ == IrqChipKind::Kernel || (irqchip_ == IrqChipKind::Split && index != 0))
      return Next::Run;
    auto board = board_.lock();
    EntryState state = vcpu.entry_state();
    if (UserIrqChip* chip = (*board)->user_chip()) chip->after_exit(index, state);
    // What KVM is handed it delivers, also where it blocks its own interrupts in a step
    // (KVM_GUESTDBG_BLOCKIRQ); and a window would be open before the step is done.
    const bool blocked = debug_controls_[index].step && debug_controls_[index].block_interrupts;
    if (blocked) state.interrupts_on = false;
    // That may put deadlines off, never forward: the event loop need not hear of it.
    plan = (*board)->before_entry(index, state);
    if (blocked) plan.window = false;
  }
  if (plan.init || plan.sipi) {
    VMM_TRY(restart(index, plan));
    if (!plan.wait) VMM_TRY(vcpu.prepare(plan));
    return plan.wait ? Next::Wait : Next::Again;
  }
  if (plan.wait) return Next::Wait;
  VMM_TRY(vcpu.prepare(plan));
  if (debug_controls_[index].step) step_notes_[index].from = vcpu.last_rip();
  return Next::Run;
}

// When the guest goes on: for the file alone, as every exit has one.
void Machine::note_entry(unsigned vcpu) {
  (*board_.lock())->note_for_trace({.vcpu = vcpu, .kind = "enter"});
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

bool Machine::paused() {
  const std::lock_guard rest(rest_);
  return held_.has_value();
}

VmTime Machine::now() { return (*board_.lock())->clock.now(); }

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
  std::unique_ptr<Keyboard> keyboard;
  if (spec_.vga.kind == VgaKind::Text && LiveScreen::possible()) {
    screen = std::make_unique<LiveScreen>(STDOUT_FILENO);
    keyboard = VMM_TRY(Keyboard::open());
  }

  std::vector<VcpuBackend*> backends;
  for (const auto& vcpu : vcpus_) backends.push_back(vcpu.get());
  VcpuThreads::Hooks hooks;
  hooks.started = [this](unsigned vcpu) -> Result<void> {
    if (kvm_trace_ != nullptr) kvm_trace_->mark(vcpu);
    return enter_seccomp(SeccompThread::Vcpu, flash_rules());
  };
  hooks.handle = [this](const Exit& exit, unsigned vcpu, Gva rip) {
    return handle(exit, vcpu, rip);
  };
  hooks.before_run = [this](unsigned vcpu) {
    auto next = before_run(vcpu);
    if (trace_ != nullptr && next && *next == VcpuThreads::Next::Run) note_entry(vcpu);
    return next;
  };
  hooks.interrupted = [this](unsigned vcpu, Gva rip) {
    (void)handle_exit(Interrupted{}, **board_.lock(), vcpu, rip);
  };
  hooks.broke = [this](unsigned vcpu, const DebugStop& stop) {
    debug_stops_.lock()->emplace_back(vcpu, stop);
    // In this order, as await_step() has the opposite one: whoever comes second sees the other.
    has_stopped_ = true;
    if (!awaits_step_) wake();
  };
  hooks.ended = [this] { wake(); };
  threads_ = std::make_unique<VcpuThreads>(std::move(backends), std::move(hooks));
  VMM_TRY(threads_->start());
  begin_kvm_trace();
  VMM_TRY(start_disks());
  std::vector<SeccompThread> also;
  if (std::ranges::any_of(spec_.disks, &DiskSpec::write_back))
    also.push_back(SeccompThread::WriteBack);
  if (!flash_rules().empty()) also.push_back(SeccompThread::Flash);
  if (kvm_trace_ != nullptr) also.push_back(SeccompThread::Tracing);
  if (may_reset()) also.push_back(SeccompThread::Reset);
  VMM_TRY(enter_seccomp(binds_socket_files(spec_) ? SeccompThread::Sockets : SeccompThread::Main,
                        also));
  VMM_TRY(start_guest());
  VMM_TRY(event_loop(screen.get(), keyboard.get()));
  stop();
  if (debugger_ != nullptr && !is_kept()) {
    // Memory is the guest's own again, without breakpoints.
    VMM_TRY(debugger_->debugger().interrupted());
    debugger_->ended(exit_code(*threads_->ending(), spec_.exit_protocol), kFlushSeconds);
  }
  if (control_ != nullptr) control_->ended(kFinishSeconds);
  for (const auto& disk : disks_) disk_notes_.push_back(disk->finish());
  if (vars_ != nullptr && !vars_->sync()) ++vars_failures_;
  finish_traces();
  console_->flush(kFlushSeconds);
  if (screen != nullptr) screen->finish(kFinishSeconds);
  restore_terminal();
  return *threads_->ending();
}

// False: it was no reason to end.
Result<bool> Machine::hear_signal() {
  signalfd_siginfo info{};
  if (::read(signals_.get(), &info, sizeof info) != sizeof info) return false;
  const int number = static_cast<int>(info.ssi_signo);
  // Ctrl-C in a debugger that started us may come as a signal as well.
  if (number == SIGINT && debugger_ != nullptr && VMM_TRY(debugger_->take_interrupt()))
    return false;
  threads_->end(ending::Stopped{number});
  return true;
}

// Gives the guest what was typed at its screen; a key that its keyboard has no room for is lost, as
// on the real one.
void Machine::type(Keyboard& keyboard) {
  std::vector<std::vector<std::uint8_t>> keys;
  const TerminalKeys::Event event = keyboard.read(keys);
  if (event == TerminalKeys::Event::Quit) threads_->end(ending::Quit{});
  const auto board = board_.lock();
  for (const auto& key : keys) (*board)->keyboard_controller().type(key);
}

Result<void> Machine::event_loop(LiveScreen* screen, Keyboard* keyboard) {
  using clock = std::chrono::steady_clock;
  auto started = clock::now();
  const auto seconds_since = [](clock::time_point then) {
    return std::chrono::duration<double>(clock::now() - then).count();
  };
  clock::time_point last_look = started;
  clock::time_point last_progress = started;
  std::uint64_t seen_exits = 0;
  unsigned looks = 0;
  while (!threads_->ending()) {
    std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    // Before the console's entries, whose number varies.
    const bool typing = keyboard != nullptr && keyboard->fd() >= 0;
    if (typing) fds.push_back({keyboard->fd(), POLLIN, 0});
    console_->add_poll(fds);
    if (debugger_ != nullptr) debugger_->add_poll(fds);
    if (control_ != nullptr) control_->add_poll(fds);
    nanoseconds wait = looks < kEarlyLooks ? kFirstLook : kLaterLook;
    if (screen != nullptr) wait = std::min<nanoseconds>(wait, kScreenRefresh);
    if (kvm_trace_ != nullptr) wait = std::min<nanoseconds>(wait, kKvmTraceLook);
    for (const double limit : {spec_.timeout, spec_.stall_timeout})
      if (limit > 0)
        wait = std::min<nanoseconds>(wait, milliseconds(static_cast<long>(limit * 1000) + 1));
    if (debugger_ != nullptr) wait = std::min(wait, debugger_->patience());
    wait = std::min(wait, serve_deadlines());
    const timespec timeout{.tv_sec = wait.count() / kNanosecondsPerSecond,
                           .tv_nsec = wait.count() % kNanosecondsPerSecond};
    if (::ppoll(fds.data(), fds.size(), &timeout, nullptr) < 0 && errno != EINTR)
      return fail(Error::system(ErrorKind::Internal, "ppoll", errno));

    if (fds[0].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &count, sizeof count);
    }
    if (fds[1].revents != 0) VMM_TRY(hear_signal());
    if (reset_asked_) VMM_TRY(serve_reset());
    if (typing && fds[2].revents != 0) type(*keyboard);
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
    if (debugger_ != nullptr) VMM_TRY(serve_debugger(fds));
    if (control_ != nullptr) VMM_TRY(control_->serve(fds));
    if (suspended_ && (*board_.lock())->wake_requested()) VMM_TRY(wake_from_s3());
    drain_traces();
    if (screen != nullptr) screen->show(this->screen());

    if (spec_.timeout > 0 && seconds_since(started) >= spec_.timeout)
      threads_->end(ending::TimedOut{spec_.timeout});
    const auto now = clock::now();
    if (now - last_look < (looks < kEarlyLooks ? kFirstLook : kLaterLook)) continue;
    const auto before = std::exchange(last_look, now);
    ++looks;
    // Whoever paused the machine does not want it ended for that.
    if (paused()) {
      last_progress = now;
      if (debugger_ != nullptr || control_ != nullptr) started += now - before;
    }
    if (const std::uint64_t exits = threads_->exits(); exits != seen_exits) {
      seen_exits = exits;
      last_progress = now;
    } else if (!threads_->ending() && !spec_.gdb && halted_for_ever()) {
      threads_->end(ending::HaltedForever{});
    }
    if (spec_.stall_timeout > 0 && seconds_since(last_progress) >= spec_.stall_timeout)
      threads_->end(ending::Stalled{spec_.stall_timeout});
  }
  return {};
}

}  // namespace vmm
