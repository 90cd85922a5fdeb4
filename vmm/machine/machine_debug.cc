// What a debugger may do to the machine while it is paused (vmm/core/debug_target.h).
#include <fmt/format.h>
#include <poll.h>

#include <cerrno>

#include "vmm/base/spin.h"
#include "vmm/machine/control_session.h"
#include "vmm/machine/debug_arch.h"
#include "vmm/machine/debug_probe.h"
#include "vmm/machine/debug_session.h"
#include "vmm/machine/machine.h"

namespace vmm {

Result<DebugRegisters> Machine::registers(unsigned vcpu) {
  DebugRegisters registers = VMM_TRY(vcpus_[vcpu]->debug_registers());
  registers.cpu.mp_state = mp_state_of(vcpu, registers.cpu.mp_state);
  if (dead_ && dead_->first == vcpu) registers.cpu = dead_->second;
  return registers;
}

Result<CpuState> Machine::brief_state(unsigned vcpu) { return vcpus_[vcpu]->brief_state(); }

Result<std::uint32_t> Machine::mp_state(unsigned vcpu) {
  std::uint32_t kvms = KVM_MP_STATE_RUNNABLE;
  if (irqchip_ != IrqChipKind::User) kvms = VMM_TRY(vcpus_[vcpu]->mp_state());
  return mp_state_of(vcpu, kvms);
}

Result<void> Machine::set_registers(unsigned vcpu, const DebugRegisters& registers) {
  if (dead_ && dead_->first == vcpu) dead_->second = registers.cpu;
  return vcpus_[vcpu]->set_debug_registers(registers);
}

Result<std::uint64_t> Machine::msr(unsigned vcpu, std::uint32_t index) {
  return vcpus_[vcpu]->msr(index);
}

Result<void> Machine::set_msr(unsigned vcpu, std::uint32_t index, std::uint64_t value) {
  return vcpus_[vcpu]->set_msr(index, value);
}

Result<void> Machine::set_debug_control(unsigned vcpu, const DebugControl& control) {
  VMM_TRY(vcpus_[vcpu]->set_debug_control(control));
  debug_controls_[vcpu] = control;
  return {};
}

// The exit of a vCPU that a debugger has a say in. A stepped HLT is done when it has put the
// processor to sleep: where the LAPIC is ours KVM's trap behind it would come at the wake-up only.
Step Machine::debug_step(Board& board, const Exit& exit, unsigned vcpu, Gva rip, Step step) {
  const DebugControl& control = debug_controls_[vcpu];
  if (const auto* stop = std::get_if<DebugStop>(&exit);
      stop != nullptr && control != DebugControl()) {
    // KVM's emulator reports the step in place of the HLT, and that one behind a later instruction.
    StepNote& note = step_notes_[vcpu];
    if (control.step && (stop->dr6 & spec::DR6_BS) != 0 && rip == note.from + 1 &&
        board.user_chip() != nullptr && is_behind_halt(vcpu, stop->pc)) {
      board.user_chip()->halt(vcpu);
      note.late_halt = true;
    }
    return step::Break{*stop};
  }
  if (std::holds_alternative<Halt>(exit) && control.step &&
      std::holds_alternative<step::Continue>(step))
    return step::Break{{.exception = 1, .pc = rip, .dr6 = spec::DR6_BS, .dr7 = 0}};
  return step;
}

// Whether HLT is what stands in front of the linear address `pc`.
bool Machine::is_behind_halt(unsigned vcpu, Gva pc) {
  constexpr std::uint8_t kHlt = 0xf4;
  const auto state = vcpus_[vcpu]->state();
  if (!state) return false;
  const PagingFeatures features = PagingFeatures::from(guest_cpuid_);
  const Walk walk = walk_page(memory_, PagingContext::from(*state, features), pc - 1, {});
  std::uint8_t byte = 0;
  return walk.gpa && memory_.read(*walk.gpa, std::span(&byte, 1)) && byte == kHlt;
}

// What the image is made for decides how the registers are shown.
Result<void> Machine::open_debugger(const Kvm& kvm, const LoadedImage& image) {
  if (!spec_.gdb && spec_.catches.empty()) return {};
  debug_support_ =
      VMM_TRY_CONTEXT(probe_debug_support(kvm, guest_cpuid_), "try what a debugger can do here");
  debugger_ = VMM_TRY(DebugSession::open(spec_.gdb, *this, *this, debug_arch(spec_, image)));
  return {};
}

bool Machine::is_kept() const {
  return spec_.on_crash == OnCrash::Gdb && spec_.gdb && is_death(*threads_->ending());
}

Result<void> Machine::keep_for_debugger(unsigned vcpu, const CpuState& registers, int exit_code,
                                        std::string card) {
  card_ = std::move(card);
  dead_ = {vcpu, registers};
  released_ = false;
  VMM_TRY(debugger_->died(vcpu, exit_code));
  while (!released_) {
    std::vector<pollfd> fds{{signals_.get(), POLLIN, 0}};
    debugger_->add_poll(fds);
    if (control_ != nullptr) control_->add_poll(fds);
    if (::ppoll(fds.data(), fds.size(), nullptr, nullptr) < 0 && errno != EINTR)
      return fail(Error::system(ErrorKind::Internal, "ppoll", errno));
    if (fds[0].revents != 0 && VMM_TRY(hear_signal())) break;
    VMM_TRY(debugger_->serve(fds));
    if (control_ != nullptr) VMM_TRY(control_->serve(fds));
  }
  return {};
}

std::string Machine::debugger_name() const {
  return debugger_ == nullptr ? std::string() : debugger_->name();
}

// With a debugger the guest waits at its first instruction.
Result<void> Machine::start_guest() {
  if (debugger_ == nullptr) return resume();
  VMM_TRY(pause());
  if (!spec_.gdb || spec_.gdb_nowait) return debugger_->run();
  return {};
}

// Two that stopped at the same moment: the second one stands at its breakpoint still, and stops
// there anew.
Result<void> Machine::serve_stops() {
  has_stopped_ = false;
  const auto stops = std::exchange(*debug_stops_.lock(), {});
  if (stops.empty()) return {};
  VMM_TRY(pause());
  if (threads_->ending()) return {};
  return debugger_->stopped(stops.front().first, stops.front().second);
}

// A step is made sooner than this thread could be woken for it. Of a range some are, then others
// are heard again.
Result<void> Machine::await_step() {
  constexpr int kMostSteps = 64;
  for (int i = 0; i < kMostSteps && debugger_->debugger().steps_for_user(); ++i) {
    awaits_step_ = true;
    spin_until([this] { return has_stopped_.load(); });
    awaits_step_ = false;
    if (!has_stopped_) break;
    VMM_TRY(serve_stops());
  }
  return {};
}

Result<void> Machine::serve_debugger(const std::vector<pollfd>& fds) {
  VMM_TRY(serve_stops());
  if (debugger_->turn_is_overdue()) {
    VMM_TRY(pause());
    if (!threads_->ending()) VMM_TRY(debugger_->pass_turn());
  }
  VMM_TRY(debugger_->serve(fds));
  return await_step();
}

}  // namespace vmm
