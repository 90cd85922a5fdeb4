#include "vmm/core/debugger.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/core/trap_flag.h"

namespace vmm {
namespace {

constexpr std::uint8_t kInt3 = 0xcc;
constexpr std::uint32_t kDebugException = 1;
constexpr std::uint32_t kBreakpointException = 3;
// Of all stepped watchpoints together: they are read after each step.
constexpr unsigned kMostStepped = 64;

using Kind = Breakpoint::Kind;
using How = GoOn::How;

bool is_watch(const Breakpoint& b) { return b.kind == Kind::Write || b.kind == Kind::Access; }

// Aligned powers of two that make up the range, as debug registers need them (SDM 17.2.5).
std::vector<HardwareBreakpoint> pieces_of(const Breakpoint& watch) {
  std::vector<HardwareBreakpoint> pieces;
  Gva at = watch.address;
  unsigned rest = watch.length;
  while (rest != 0) {
    unsigned size = 8;
    while (size > rest || at % size != 0) size /= 2;
    pieces.push_back({at,
                      watch.kind == Kind::Write ? HardwareBreakpoint::Kind::Write
                                                : HardwareBreakpoint::Kind::Access,
                      size});
    at += size;
    rest -= size;
  }
  return pieces;
}

Gva instruction_of(const CpuState& state) {
  // Segments other than FS and GS have no base in 64-bit mode.
  if (cpu_mode(state.sregs) == CpuMode::Long64) return Gva{state.regs.rip};
  return static_cast<Gva>(static_cast<std::uint32_t>(state.sregs.cs.base + state.regs.rip));
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

// Registers that are needed whatever is mapped.
unsigned Debugger::slots_needed() const {
  std::size_t needed = 0;
  for (const Breakpoint& b : breakpoints_) {
    if (is_watch(b) && support_.watchpoints) needed += pieces_of(b).size();
    if (b.kind == Kind::Hardware || (b.kind == Kind::Software && !support_.int3)) ++needed;
  }
  return static_cast<unsigned>(needed);
}

Result<void> Debugger::check_watch(const Breakpoint& b) const {
  constexpr unsigned kMost = DebugControl::kSlots * 8;
  if (!support_.watchpoints) {
    if (b.kind == Kind::Access)
      return fail(Error::usage("this host's KVM does not deliver watchpoints to a debugger, and "
                               "single steps show writes alone")
                      .hint("watch writes, break at the code that may read there, or try it in vmm "
                            "lab"));
    if (!support_.steps_into_handlers)
      return fail(
          Error::usage("this host's KVM does not deliver watchpoints to a debugger, and its "
                       "single steps pass over interrupt handlers")
              .hint("break at the code that may write there, or try it in vmm lab"));
    std::uint64_t sum = b.length;
    for (const WatchedRange& range : stepped_ranges()) sum += range.length;
    if (b.length == 0 || sum > kMostStepped || b.address + (b.length - 1) < b.address)
      return fail(
          Error::usage(fmt::format("{} bytes at {:x}h: this host's KVM delivers no "
                                   "watchpoints, and single steps watch at most {} bytes",
                                   b.length, b.address, kMostStepped)));
    return {};
  }
  if (b.length == 0 || b.length > kMost || b.address + (b.length - 1) < b.address)
    return fail(
        Error::usage(fmt::format("{} bytes at {:x}h: the four debug registers watch at most {}",
                                 b.length, b.address, kMost)));
  return {};
}

Result<void> Debugger::insert(const Breakpoint& breakpoint, StopCondition condition) {
  if (std::ranges::find(breakpoints_, breakpoint) == breakpoints_.end()) VMM_TRY(add(breakpoint));
  if (condition)
    conditions_[breakpoint] = std::move(condition);
  else
    conditions_.erase(breakpoint);
  return {};
}

Result<void> Debugger::add(const Breakpoint& breakpoint) {
  // The place of each is looked for whenever the guest goes on.
  constexpr std::size_t kMost = 1024;
  if (breakpoints_.size() == kMost)
    return fail(Error::usage(fmt::format("there are {} breakpoints, no more are taken", kMost))
                    .hint("delete some first"));
  if (is_watch(breakpoint))
    VMM_TRY(check_watch(breakpoint));
  else if (!support_.hardware && (breakpoint.kind == Kind::Hardware || !support_.int3))
    return fail(Error::usage(
        "this host's KVM delivers no breakpoints to a debugger: only single steps work here"));
  breakpoints_.push_back(breakpoint);
  if (slots_needed() <= DebugControl::kSlots) return {};
  breakpoints_.pop_back();
  return fail(
      Error::usage(
          fmt::format("no debug register is left: a processor has four, and {} are in use{}",
                      slots_needed(),
                      breakpoint.kind == Kind::Software
                          ? " (this host's KVM does not report int3, so each breakpoint "
                            "takes one)"
                          : ""))
          .hint("delete another breakpoint or watchpoint first"));
}

void Debugger::remove(const Breakpoint& breakpoint) {
  std::erase(breakpoints_, breakpoint);
  conditions_.erase(breakpoint);
}

void Debugger::remove_all() {
  breakpoints_.clear();
  conditions_.clear();
}

// By the tables of the first vCPU that maps it: kernels share theirs.
std::optional<Gpa> Debugger::place_of(Gva address) {
  for (unsigned i = 0; i < target_.vcpu_count(); ++i) {
    const auto state = target_.cpu_state(i);
    if (!state) continue;
    const Walk walk =
        walk_page(target_.memory(), PagingContext::from(*state, features_), address, {});
    std::uint8_t byte = 0;
    if (walk.gpa && target_.memory().read(*walk.gpa, std::span(&byte, 1))) return walk.gpa;
  }
  return std::nullopt;
}

bool Debugger::has_breakpoint_at(Gva address) const {
  return std::ranges::any_of(
      breakpoints_, [&](const Breakpoint& b) { return !is_watch(b) && b.address == address; });
}

// A walk of the guest's tables each.
void Debugger::find_places() {
  places_.clear();
  if (!support_.int3) return;
  for (const Breakpoint& b : breakpoints_)
    if (b.kind == Kind::Software)
      if (const auto place = place_of(b.address)) places_[b.address] = *place;
}

// Those that need a register first, then software breakpoints that have no place in RAM, as far as
// registers go.
void Debugger::assign_slots() {
  slots_ = {};
  std::size_t used = 0;
  const auto take = [&](const HardwareBreakpoint& wanted) {
    if (used < slots_.size()) slots_[used++] = wanted;
  };
  const auto execute = [&](const Breakpoint& b) {
    take({b.address, HardwareBreakpoint::Kind::Execute, 1});
  };
  for (const Breakpoint& b : breakpoints_) {
    if (is_watch(b) && support_.watchpoints) std::ranges::for_each(pieces_of(b), take);
    if (b.kind == Kind::Hardware) execute(b);
  }
  if (!support_.hardware) return;
  for (const Breakpoint& b : breakpoints_)
    if (b.kind == Kind::Software && !places_.contains(b.address)) execute(b);
}

void Debugger::plant() {
  for (const auto& [address, place] : places_) {
    if (planted_.contains(place)) continue;
    Planted planted{.address = address};
    if (!target_.memory().read(place, std::span(&planted.byte, 1))) continue;
    if (target_.write_memory(place, std::span(&kInt3, 1))) planted_.emplace(place, planted);
  }
}

// What the guest has written over one since is its own.
void Debugger::take_out() {
  for (const auto& [place, planted] : planted_) {
    std::uint8_t now = 0;
    if (target_.memory().read(place, std::span(&now, 1)) && now == kInt3)
      (void)target_.write_memory(place, std::span(&planted.byte, 1));
  }
  planted_.clear();
}

void Debugger::peek(const std::function<void()>& look) {
  const auto planted = planted_;
  take_out();
  look();
  for (const auto& [place, taken] : planted) {
    // What the guest has written over one is no longer ours.
    std::uint8_t now = 0;
    if (target_.memory().read(place, std::span(&now, 1)) && now == taken.byte)
      (void)target_.write_memory(place, std::span(&kInt3, 1));
  }
  planted_ = planted;
}

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
    vcpu.passes = false;
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

// One after the other passes the breakpoint at which it stands, then all go on together.
Result<void> Debugger::resume() {
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

std::vector<bool> Debugger::choose_who() {
  const std::size_t count = vcpus_.size();
  const auto goes = [&](unsigned i) { return vcpus_[i].how.how != How::Hold; };
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

Result<void> Debugger::set_controls(const std::vector<bool>& who) {
  const bool alone = passing_.has_value();
  for (unsigned i = 0; i < vcpus_.size(); ++i) {
    Vcpu& vcpu = vcpus_[i];
    if (!who[i]) continue;
    // Without a breakpoint of ours the guest keeps its own to itself.
    DebugControl control{.int3 = !planted_.empty(), .slots = slots_};
    control.step = alone || stepping_ || vcpu.how.how != How::Run;
    control.block_interrupts = control.step && support_.block_interrupts &&
                               (vcpu.how.how == How::Run ? alone : !interrupts_in_steps_) &&
                               !vcpu.halted;
    if (control.step && !control.block_interrupts && !vcpu.before)
      vcpu.before = VMM_TRY(target_.cpu_state(i));
    // It stands at these.
    if (alone)
      for (auto& slot : control.slots)
        if (slot && slot->kind == HardwareBreakpoint::Kind::Execute) slot.reset();
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
  for (Vcpu& vcpu : vcpus_) vcpu.passes = false;
  passing_.reset();
  std::optional<DebugReport> first;
  for (unsigned i = 0; i < who_.size(); ++i) {
    if (!who_[i]) continue;
    const auto report = VMM_TRY(look_behind(i));
    if (!first) first = report;
  }
  return first;
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
                                     .breakpoint = {.kind = Kind::Write,
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
  for (const Breakpoint& b : breakpoints_) {
    if (is_watch(b) || b.address != address) continue;
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
