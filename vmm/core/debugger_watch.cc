// Watchpoints by single steps: whose turn it is, and what is to be seen behind a step.
#include <algorithm>

#include "vmm/core/debugger.h"
#include "vmm/core/trap_flag.h"

namespace vmm {

std::vector<bool> Debugger::choose_who() {
  const std::size_t count = vcpus_.size();
  const auto goes = [&](unsigned i) { return vcpus_[i].how.how != GoOn::How::Hold; };
  std::vector<bool> who(count);
  for (unsigned i = 0; i < count; ++i) who[i] = passing_ ? i == *passing_ : goes(i);
  stepping_ = steps_for_watch();
  others_wait_ = false;
  if (!stepping_ || passing_) return who;
  std::optional<unsigned> next;
  for (std::size_t n = 1; n <= count && !next; ++n) {
    const auto i = static_cast<unsigned>((turn_ + n) % count);
    if (goes(i) && !vcpus_[i].asleep) next = i;
  }
  // All sleep: whoever is woken steps.
  if (!next) return who;
  turn_ = *next;
  ++turns_;
  for (unsigned i = 0; i < count; ++i) {
    if (!goes(i) || i == turn_ || vcpus_[i].asleep) continue;
    who[i] = false;
    others_wait_ = true;
  }
  return who;
}

// A vCPU that may have made a step.
Result<std::optional<DebugReport>> Debugger::look_behind(unsigned vcpu) {
  if (stepping_) return look_after_step(vcpu);
  VMM_TRY(clean_up_behind_step(vcpu));
  return std::optional<DebugReport>();
}

// One that ran along asleep, and was woken, has made a step as well by now, or is about to.
Result<std::optional<DebugReport>> Debugger::look_behind_others(unsigned index) {
  std::optional<DebugReport> first;
  for (unsigned i = 0; stepping_ && i < who_.size(); ++i) {
    if (i == index || !who_[i] || VMM_TRY(target_.mp_state(i)) != KVM_MP_STATE_RUNNABLE) continue;
    const bool asleep = vcpus_[i].asleep;
    const auto report = VMM_TRY(look_after_step(i));
    if (!first) first = report;
    // Until it stops by itself, for its turn may be one that does not end.
    vcpus_[i].asleep = asleep;
  }
  return first;
}

bool Debugger::steps_for_watch() const {
  return !support_.watchpoints && std::ranges::any_of(breakpoints_, is_watch);
}

std::vector<WatchedRange> Debugger::stepped_ranges() const {
  std::vector<WatchedRange> ranges;
  for (const Breakpoint& b : breakpoints_)
    if (is_watch(b)) ranges.push_back({b.address, b.length});
  return ranges;
}

Result<void> Debugger::clean_up_behind_step(unsigned index) {
  const auto before = std::exchange(vcpus_[index].before, {});
  if (!before) return {};
  const CpuState brief = VMM_TRY(target_.brief_state(index));
  if (!may_have_stored_trap_flag(before->regs, brief.regs)) return {};
  const CpuState state = VMM_TRY(target_.cpu_state(index));
  return remove_stored_trap_flag(target_, index, *before, state, features_);
}

Result<void> Debugger::look_before_steps(unsigned index) {
  Vcpu& vcpu = vcpus_[index];
  const CpuState state = VMM_TRY(target_.cpu_state(index));
  vcpu.before = state;
  vcpu.asleep = state.mp_state != KVM_MP_STATE_RUNNABLE;
  (void)vcpu.watched.update(stepped_ranges(), target_.memory(),
                            PagingContext::from(state, features_));
  return {};
}

Result<std::optional<DebugReport>> Debugger::look_after_step(unsigned index) {
  Vcpu& vcpu = vcpus_[index];
  const CpuState state = VMM_TRY(target_.cpu_state(index));
  if (vcpu.before) VMM_TRY(remove_stored_trap_flag(target_, index, *vcpu.before, state, features_));
  vcpu.before = state;
  vcpu.asleep = state.mp_state != KVM_MP_STATE_RUNNABLE;
  const auto ranges = stepped_ranges();
  const auto changed =
      vcpu.watched.update(ranges, target_.memory(), PagingContext::from(state, features_));
  if (!changed) return std::optional<DebugReport>();
  vcpu.passes = false;
  return std::optional<DebugReport>({.why = DebugReport::Why::Watch,
                                     .vcpu = index,
                                     .breakpoint = {.kind = Breakpoint::Kind::Write,
                                                    .address = ranges[*changed].address,
                                                    .length = ranges[*changed].length}});
}

std::optional<std::uint64_t> Debugger::turn() const {
  if (!running_ || !others_wait_) return std::nullopt;
  return turns_;
}

Result<std::optional<DebugReport>> Debugger::pass_turn() {
  if (!turn()) return std::optional<DebugReport>();
  if (auto report = VMM_TRY(interrupted())) return report;
  vcpus_[turn_].asleep = true;
  return go_on();
}

}  // namespace vmm
