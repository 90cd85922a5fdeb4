// Breakpoints as the user has them, and what they are in debug registers and in memory.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/core/debugger.h"

namespace vmm {
namespace {

constexpr std::uint8_t kInt3 = 0xcc;
// Of all stepped watchpoints together: they are read after each step.
constexpr unsigned kMostStepped = 64;

using Kind = Breakpoint::Kind;

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

}  // namespace

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
  std::erase_if(breakpoints_, [](const Breakpoint& b) { return !b.catching; });
  std::erase_if(conditions_, [](const auto& entry) { return !entry.first.catching; });
}

// By the tables of the first vCPU that maps it in that level: kernels share theirs. Nothing where
// int3 would be in the way of a VM entry.
Debugger::Places Debugger::places_of(Gva address, const std::vector<VcpuMemory>& memories) const {
  Places places;
  for (const VcpuMemory& memory : memories) {
    std::optional<Gpa>& known = memory.position().level == 1 ? places.l1 : places.l2;
    if (known) continue;
    const auto place = memory.place(address);
    std::uint8_t byte = 0;
    if (!place || !target_.memory().read(*place, std::span(&byte, 1))) continue;
    std::array<std::uint8_t, 3> code{};
    if (support_.resume && memory.read(address, code) && is_vm_entry(code)) return {};
    known = place;
  }
  return places;
}

bool Debugger::has_breakpoint_at(Gva address) const {
  return std::ranges::any_of(
      breakpoints_, [&](const Breakpoint& b) { return !is_watch(b) && b.address == address; });
}

// A walk of the guest's tables each.
void Debugger::find_places() {
  places_.clear();
  may_nest_ = false;
  const auto is_software = [](const Breakpoint& b) { return b.kind == Kind::Software; };
  if (!support_.int3 || std::ranges::none_of(breakpoints_, is_software)) return;
  std::vector<VcpuMemory> memories;
  for (unsigned i = 0; i < target_.vcpu_count(); ++i) {
    auto memory = VcpuMemory::of(target_, i, features_);
    if (!memory) continue;
    may_nest_ = may_nest_ || memory->position().may_nest;
    auto other = memory->in_other_level();
    memories.push_back(std::move(*memory));
    if (other) memories.push_back(std::move(*other));
  }
  for (const Breakpoint& b : breakpoints_) {
    if (!is_software(b)) continue;
    const Places places = places_of(b.address, memories);
    if (places.l1 || places.l2) places_[b.address] = places;
  }
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
  if (!may_nest_) return;
  for (const Breakpoint& b : breakpoints_) {
    const auto found = b.kind == Kind::Software ? places_.find(b.address) : places_.end();
    if (found != places_.end() && (!found->second.l1 || !found->second.l2)) execute(b);
  }
}

void Debugger::plant() {
  for (const auto& [address, places] : places_) {
    for (const std::optional<Gpa>& place : {places.l1, places.l2}) {
      if (!place || planted_.contains(*place)) continue;
      Planted planted{.address = address};
      if (!target_.memory().read(*place, std::span(&planted.byte, 1))) continue;
      if (target_.write_memory(*place, std::span(&kInt3, 1))) planted_.emplace(*place, planted);
    }
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

}  // namespace vmm
