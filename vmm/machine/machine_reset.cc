// The machine starts again from its images, as after power-on, for the guest (--on-reset reboot) or
// its user (`monitor reset`).
//
// Nothing is put back in order: KVM's VM, the processors and the board are made anew, so that none
// of them can remember anything. What is outside stays: the threads and their filters, the
// console, disks, variables, the trace, whoever is connected.
#include <fmt/format.h>

#include <bit>
#include <utility>

#include "vmm/base/check.h"
#include "vmm/machine/catcher.h"
#include "vmm/machine/debug_session.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/terminal.h"
#include "vmm/machine/trace_file.h"

namespace vmm {
namespace {

constexpr std::uint32_t kIa32TscDeadline = 0x6e0;

}  // namespace

bool Machine::may_reset() const {
  return spec_.on_reset == OnReset::Reboot || spec_.gdb || spec_.ctl;
}

// The end of the run, or, of a guest that may start again, of this life: no vCPU goes on, and the
// event loop does the rest. From any thread, with the board's lock.
void Machine::end_by_device(Board& board, RunOutcome outcome) {
  if (spec_.on_reset != OnReset::Reboot || !std::holds_alternative<ending::Reset>(outcome))
    return threads_->end(std::move(outcome));
  if (!board.ending) board.ending = std::move(outcome);
  if (reset_asked_.exchange(true)) return;
  for (unsigned i = 0; i < vcpu_count(); ++i) threads_->wake(i);
  wake();
}

// What ended the run meanwhile wins: a reset must not outlive a triple fault or Ctrl-C.
Result<void> Machine::serve_reset() {
  if (threads_->ending()) return {};
  const bool ran = !paused();
  VMM_TRY(pause());
  std::string via;
  {
    const auto board = board_.lock();
    if (const auto& ending = (*board)->ending)
      if (const auto* reset = std::get_if<ending::Reset>(&*ending)) via = reset->via;
  }
  if (!start_again(std::move(via))) return {};  // that is the ending
  // A guest that does this for ever is heard of, and fills no log.
  if (!spec_.quiet && std::has_single_bit(resets_.count) && takes_output(STDERR_FILENO, 0))
    fmt::print(stderr, "vmm: reset {} ({}): the guest starts again\n", resets_.count, resets_.last);
  return ran && debugger_ == nullptr ? resume() : Result<void>();
}

Result<void> Machine::reset() {
  if (threads_ == nullptr || threads_->ending())
    return fail(Error::usage("the guest has ended, and what was outside of it is closed")
                    .hint("run it again"));
  if (kvm_trace_ != nullptr)
    return fail(Error::usage("--kvm-trace tells of one life of the machine")
                    .hint("run it without, or run it again"));
  if (!paused()) return fail(Error::internal("the machine was to be reset while it ran"));
  return start_again("the monitor's command reset");
}

// A machine that cannot be made again ends the run, with the former one to look at.
Result<void> Machine::start_again(std::string asked_by) {
  Result<void> started = rebuild();
  if (started) {
    ++resets_.count;
    resets_.last = std::move(asked_by);
    if (catcher_ != nullptr) catcher_->machine_was_reset();
    if (debugger_ != nullptr) started = debugger_->machine_was_reset();
  }
  if (!started) threads_->end(ending::MonitorFailure{started.error().text()});
  return started;
}

// Everything of the old life stays until the new one is whole, and its clock stands.
Result<void> Machine::rebuild() {
  const std::lock_guard rest(rest_);
  VMM_CHECK(held_, "the machine is paused");
  struct Life {
    std::unique_ptr<Vm> vm;
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    std::vector<VcpuState> power_on;
    VmState vm_power_on;
    std::unique_ptr<KernelIrqChip> kernel_chip;
    std::unique_ptr<Board> board;
  };
  const auto exchange = [this](Life& other) {
    std::swap(vm_, other.vm);
    std::swap(vcpus_, other.vcpus);
    std::swap(power_on_, other.power_on);
    std::swap(vm_power_on_, other.vm_power_on);
    std::swap(kernel_chip_, other.kernel_chip);
    std::swap(*board_.lock(), other.board);
  };
  const auto build = [this]() -> Result<void> {
    memory_.clear();
    const std::optional<CpuState> start = VMM_TRY(fill_memory());
    VMM_TRY(create_vm(irqchip_));
    if (tsc_deadline_) VMM_TRY(vm_->filter_msr(kIa32TscDeadline));
    std::unique_ptr<Board> board = VMM_TRY(make_board());
    board->clock.pause();
    *board_.lock() = std::move(board);
    VMM_TRY(set_entry_state(start));
    return hold_time();
  };
  const VmTime now = (*board_.lock())->clock.now();
  Life old;
  exchange(old);
  if (auto built = build(); !built) {
    exchange(old);
    return fail(std::move(built).error().context("start the machine again"));
  }
  if (trace_ != nullptr) trace_->start_again(now);
  forget_kernel();
  suspended_ = false;
  reset_asked_ = false;
  armed_deadline_ = VmTime::max();
  debug_stops_.lock()->clear();
  std::vector<VcpuBackend*> backends;
  for (const auto& vcpu : vcpus_) backends.push_back(vcpu.get());
  threads_->adopt(std::move(backends));
  return {};
}

}  // namespace vmm
