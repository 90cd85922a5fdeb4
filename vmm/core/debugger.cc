#include "vmm/core/debugger.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace {

constexpr std::uint32_t kDebugException = 1;
constexpr std::uint32_t kBreakpointException = 3;

using Kind = Breakpoint::Kind;
using How = GoOn::How;

Gva instruction_of(const CpuState& state) {
  // Segments other than FS and GS have no base in 64-bit mode.
  if (cpu_mode(state.sregs) == CpuMode::Long64) return Gva{state.regs.rip};
  return static_cast<Gva>(static_cast<std::uint32_t>(state.sregs.cs.base + state.regs.rip));
}

// Into free slots, then in place of what is in the others, the last ones first.
void put_landings(std::span<std::optional<HardwareBreakpoint>> slots,
                  const std::vector<Gva>& landings) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < slots.size(); ++i)
    if (!slots[i]) order.push_back(i);
  for (std::size_t i = slots.size(); i-- > 0;)
    if (slots[i]) order.push_back(i);
  for (std::size_t i = 0; i < std::min(order.size(), landings.size()); ++i)
    slots[order[i]] = HardwareBreakpoint{landings[i], HardwareBreakpoint::Kind::Execute, 1};
}

bool is_in_range(const GoOn& how, std::uint64_t rip) {
  return how.how == How::Range && rip >= how.first && rip < how.end;
}

}  // namespace

Debugger::Debugger(DebugTarget& target, const PagingFeatures& features)
    : target_(target),
      features_(features),
      support_(target.debug_support()),
      vcpus_(target.vcpu_count()) {}

Result<void> Debugger::go(const std::vector<GoOn>& how) {
  VMM_CHECK(how.size() == vcpus_.size(), "one way to go on for each vCPU");
  for (unsigned i = 0; i < vcpus_.size(); ++i) {
    vcpus_[i].halted = false;
    vcpus_[i].before.reset();
    if (how[i].how == How::OneStep || how[i].how == How::Range) VMM_TRY(check_step(i));
  }
  for (unsigned i = 0; i < vcpus_.size(); ++i) {
    Vcpu& vcpu = vcpus_[i];
    vcpu.how = how[i];
    vcpu.passes = vcpu.resumes = false;
    if (steps_for_watch()) VMM_TRY(look_before_steps(i));
    if (vcpu.how.how == How::Hold || !vcpu.stood) continue;
    const Gva at = instruction_of(VMM_TRY(target_.cpu_state(i)));
    vcpu.passes = vcpu.stood == at && has_breakpoint_at(at);
  }
  return resume();
}

Result<void> Debugger::check_step(unsigned index) {
  const std::uint32_t mp_state = VMM_TRY(target_.mp_state(index));
  if (mp_state == KVM_MP_STATE_UNINITIALIZED || mp_state == KVM_MP_STATE_INIT_RECEIVED)
    return fail(
        Error::usage(fmt::format("vCPU {} waits for a SIPI and has no instruction to step: "
                                 "let the others go on, with a breakpoint where it starts",
                                 index)));
  if (mp_state != KVM_MP_STATE_HALTED) return {};
  const CpuState state = VMM_TRY(target_.cpu_state(index));
  if ((state.regs.rflags & spec::RFLAGS_IF) == 0)
    return fail(
        Error::usage(fmt::format("vCPU {} is halted with interrupts off and has no "
                                 "instruction to step: only an NMI or INIT wakes it",
                                 index)));
  vcpus_[index].halted = true;
  return {};
}

// A step that crosses between levels.
void Debugger::look_for_levels(unsigned index) {
  Vcpu& vcpu = vcpus_[index];
  vcpu.enters = false;
  vcpu.landings.clear();
  const bool steps = vcpu.how.how == How::OneStep || vcpu.how.how == How::Range;
  if (!support_.resume || (!steps && !vcpu.passes)) return;
  NestedPosition position = target_.nested_position(index);
  if (!position.enters && position.level == 1) return;
  vcpu.landings = std::move(position.landings);
  if (!position.enters) return;
  vcpu.passes = false;
  vcpu.resumes = true;
  vcpu.enters = steps;
  if (!steps) vcpu.landings.clear();
}

// One after the other passes the breakpoint at which it stands, then all go on together.
Result<void> Debugger::resume() {
  for (unsigned i = 0; i < vcpus_.size(); ++i) look_for_levels(i);
  const auto first = std::ranges::find_if(vcpus_, &Vcpu::passes);
  passing_.reset();
  if (first != vcpus_.end()) passing_ = static_cast<unsigned>(first - vcpus_.begin());
  find_places();
  assign_slots();
  if (!passing_) plant();
  who_ = choose_who();
  VMM_TRY(set_controls(who_));
  // Whoever comes back to its place has hit it anew.
  for (unsigned i = 0; i < vcpus_.size(); ++i)
    if (who_[i]) vcpus_[i].stood.reset();
  running_ = true;
  return target_.run_some(who_);
}

Result<void> Debugger::set_controls(const std::vector<bool>& who) {
  const bool alone = passing_.has_value();
  for (unsigned i = 0; i < vcpus_.size(); ++i) {
    Vcpu& vcpu = vcpus_[i];
    if (!who[i]) continue;
    // Without a breakpoint of ours the guest keeps its own to itself.
    DebugControl control{.int3 = !planted_.empty(), .slots = slots_};
    control.step = (alone || stepping_ || vcpu.how.how != How::Run) && !vcpu.enters;
    control.block_interrupts = control.step && support_.block_interrupts &&
                               (vcpu.how.how == How::Run ? alone : !interrupts_in_steps_) &&
                               !vcpu.halted;
    if (control.step && !vcpu.before) vcpu.before = VMM_TRY(target_.brief_state(i));
    // It stands at these.
    if (alone)
      for (auto& slot : control.slots)
        if (slot && slot->kind == HardwareBreakpoint::Kind::Execute) slot.reset();
    put_landings(control.slots, vcpu.landings);
    control.resume = std::exchange(vcpu.resumes, false);
    control.inject_int3 = vcpu.inject == Inject::Int3;
    control.inject_debug = vcpu.inject == Inject::Debug;
    vcpu.inject = Inject::Nothing;
    VMM_TRY_CONTEXT(target_.set_debug_control(i, control), fmt::format("vCPU {}", i));
  }
  return {};
}

Result<std::optional<DebugReport>> Debugger::interrupted() {
  take_out();
  running_ = false;
  others_wait_ = false;
  for (Vcpu& vcpu : vcpus_) vcpu.passes = vcpu.resumes = false;
  passing_.reset();
  std::optional<DebugReport> first;
  for (unsigned i = 0; i < who_.size(); ++i) {
    if (!who_[i]) continue;
    const auto report = VMM_TRY(look_behind(i));
    if (!first) first = report;
  }
  return first;
}

void Debugger::machine_was_reset() {
  planted_.clear();
  passing_.reset();
  vcpus_.assign(vcpus_.size(), Vcpu());
  stepping_ = others_wait_ = false;
  running_ = false;
}

bool Debugger::steps_for_user() const {
  return running_ && std::ranges::any_of(vcpus_, [](const Vcpu& vcpu) {
           return vcpu.how.how == How::OneStep || vcpu.how.how == How::Range;
         });
}

Result<std::optional<DebugReport>> Debugger::go_on() {
  VMM_TRY(resume());
  return std::optional<DebugReport>();
}

const Breakpoint* Debugger::watch_hit(std::uint64_t dr6) const {
  for (unsigned i = 0; i < slots_.size(); ++i) {
    if (!bit(dr6, i) || !slots_[i] || slots_[i]->kind == HardwareBreakpoint::Kind::Execute)
      continue;
    for (const Breakpoint& b : breakpoints_)
      if (is_watch(b) && slots_[i]->address - b.address < b.length) return &b;
  }
  return nullptr;
}

// One whose condition is false is passed as if it had been told.
Debugger::Hit Debugger::breakpoint_hit(unsigned vcpu, Gva address) {
  Hit hit;
  // A condition may insert others.
  std::vector<Breakpoint> here;
  std::ranges::copy_if(breakpoints_, std::back_inserter(here),
                       [&](const Breakpoint& b) { return !is_watch(b) && b.address == address; });
  for (const Breakpoint& b : here) {
    hit.there = true;
    const auto condition = conditions_.find(b);
    if (condition != conditions_.end() && !condition->second(vcpu)) continue;
    hit.report = {.why = DebugReport::Why::Breakpoint, .vcpu = vcpu, .breakpoint = b};
    break;
  }
  if (!hit.there) return hit;
  vcpus_[vcpu].stood = address;
  vcpus_[vcpu].passes = !hit.report;
  return hit;
}

Result<std::optional<DebugReport>> Debugger::stepped(unsigned index) {
  Vcpu& vcpu = vcpus_[index];
  vcpu.passes = false;
  if (vcpu.how.how == How::Run) return go_on();
  // Reading the registers is five calls of KVM: not for a step that has nothing to look for.
  if (vcpu.how.how == How::Range || !breakpoints_.empty()) {
    const CpuState state = VMM_TRY(target_.cpu_state(index));
    // A breakpoint where the step ended counts as reached.
    if (const Hit hit = breakpoint_hit(index, instruction_of(state)); hit.report) return hit.report;
    if (is_in_range(vcpu.how, state.regs.rip)) return go_on();
  }
  vcpu.passes = false;
  return std::optional<DebugReport>({.why = DebugReport::Why::Stepped, .vcpu = index});
}

Result<std::optional<DebugReport>> Debugger::stopped(unsigned index, const DebugStop& stop) {
  // It came while everyone was paused for the user's Ctrl-C: the vCPU stands there, and stops anew.
  if (!running_) return std::optional<DebugReport>();
  const bool passed = passing_ == index;
  const bool ours = std::ranges::any_of(
      planted_, [&](const auto& entry) { return entry.second.address == stop.pc; });
  take_out();
  running_ = false;
  Vcpu& vcpu = vcpus_[index];
  vcpu.halted = false;
  const auto own = VMM_TRY(look_behind(index));
  const auto others = VMM_TRY(look_behind_others(index));
  if (own || others) return own ? own : others;
  if (stop.exception == kBreakpointException) {
    if (ours) {
      const Hit hit = breakpoint_hit(index, stop.pc);
      return hit.report ? hit.report : go_on();
    }
    // The guest's own.
    vcpu.passes = false;
    vcpu.inject = Inject::Int3;
    return go_on();
  }
  if (stop.exception == kDebugException) {
    // What it has in its debug registers is not what slots_ says.
    const auto landings = std::exchange(vcpu.landings, {});
    if (std::ranges::find(landings, stop.pc) != landings.end()) return stepped(index);
    if (const Breakpoint* watch = watch_hit(stop.dr6)) {
      vcpu.passes = false;
      return std::optional<DebugReport>(
          {.why = DebugReport::Why::Watch, .vcpu = index, .breakpoint = *watch});
    }
    const Hit hit = (stop.dr6 & 0xf) != 0 ? breakpoint_hit(index, stop.pc) : Hit();
    if (hit.report) return hit.report;
    if ((stop.dr6 & spec::DR6_BS) != 0 && (passed || stepping_ || vcpu.how.how != How::Run))
      return stepped(index);
    if (hit.there) return go_on();
  }
  vcpu.inject = Inject::Debug;
  return go_on();
}

}  // namespace vmm
