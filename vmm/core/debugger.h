// Breakpoints, stepping and all-stop over a DebugTarget: what gdb's stub, the control socket and
// the nested tools have in common. Pure: the target does the acts.
//
// A software breakpoint is an intent. It is planted as int3 (CCh) in RAM when the guest goes on and
// taken out when it stops, so memory always reads as the guest's own, and a page that is mapped, or
// a kernel that is copied, later gets it then. Where int3 cannot serve (no RAM there, not mapped
// yet, a host whose KVM does not report it) a debug register does, as long as there are any. In a
// guest that may be a hypervisor it is planted where L1 and where L2 have that address; one that
// has a place for one of them alone takes a register as well, if any is left.
//
// Where KVM delivers no watchpoints those for writes are stepped: while there is one the guest goes
// on by single steps, and the watched bytes are compared after each. One vCPU after the other takes
// a step, so that it is certain who wrote; those that sleep run along, for they may be woken.
//
// A single step ends with the level of nested virtualization that it began in. VMLAUNCH, VMRESUME
// and VMRUN are passed by RFLAGS.RF instead, wherefore breakpoints there are debug registers; and
// whoever steps across an entry or an exit has registers of its own where it may land.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "vmm/core/debug_target.h"
#include "vmm/core/exit.h"
#include "vmm/core/page_walk.h"
#include "vmm/core/vcpu_memory.h"
#include "vmm/core/watched_bytes.h"

namespace vmm {

// What a user asks for; the debug registers and bytes follow from it.
struct Breakpoint {
  enum class Kind : std::uint8_t { Software, Hardware, Write, Access };
  Kind kind = Kind::Software;
  Gva address = 0;
  unsigned length = 1;    // of a watched range
  bool catching = false;  // --catch has set it: it is no user's to see or to remove

  // clang-tidy 14 takes the comparison with 0 in what the compiler writes here for a null pointer.
  auto operator<=>(const Breakpoint&) const = default;  // NOLINT(modernize-use-nullptr)
};

inline bool is_watch(const Breakpoint& breakpoint) {
  return breakpoint.kind == Breakpoint::Kind::Write || breakpoint.kind == Breakpoint::Kind::Access;
}

// Asked when `vcpu` stands at a breakpoint, before the user is told of it: false lets it go on.
using StopCondition = std::function<bool(unsigned vcpu)>;

// How a vCPU is to go on.
struct GoOn {
  enum class How : std::uint8_t { Hold, Run, OneStep, Range };
  How how = How::Hold;
  // Range: step while RIP is in [first, end).
  Gva first = 0;
  Gva end = 0;

  bool operator==(const GoOn&) const = default;
};

// Why the guest stopped, for its user.
struct DebugReport {
  enum class Why : std::uint8_t { Stepped, Breakpoint, Watch };
  Why why = Why::Stepped;
  unsigned vcpu = 0;
  Breakpoint breakpoint{};  // Breakpoint, Watch

  bool operator==(const DebugReport&) const = default;
};

class Debugger {
 public:
  // The processor's part in the rules of paging.
  Debugger(DebugTarget& target, const PagingFeatures& features);

  // Usage errors with the reason: a range that no debug register can watch, or a host that cannot
  // deliver it, or no register left. Inserting again changes the condition, if anything; removing
  // what is not there does nothing. No condition (which watchpoints never have): it always stops.
  Result<void> insert(const Breakpoint& breakpoint, StopCondition condition = {});
  void remove(const Breakpoint& breakpoint);
  // But for --catch's.
  void remove_all();
  const std::vector<Breakpoint>& breakpoints() const { return breakpoints_; }
  // Interrupts are blocked in steps unless this is set.
  void step_into_interrupts(bool on) { interrupts_in_steps_ = on; }
  bool steps_into_interrupts() const { return interrupts_in_steps_; }

  // The guest goes on, vCPU by vCPU as `how` says (as many as there are vCPUs). Only while it is
  // stopped. A usage error, and nobody goes, where one is to step that no interrupt can wake. A
  // step of one that is halted takes the interrupt that wakes it.
  Result<void> go(const std::vector<GoOn>& how);
  // `vcpu` stopped by itself and everyone is paused. What the user should be told; nothing where
  // the guest went on, because the stop was not for them, or where it has been interrupted before.
  Result<std::optional<DebugReport>> stopped(unsigned vcpu, const DebugStop& stop);
  // Somebody else looks at the guest that runs; everyone is paused. Memory is its own meanwhile,
  // and whoever paused it lets it run on as who() says.
  void peek(const std::function<void()>& look);
  const std::vector<bool>& who() const { return who_; }
  // The user wants it to stop, and everyone is paused. What they should be told all the same: the
  // last step of a stepped watchpoint had just been made.
  Result<std::optional<DebugReport>> interrupted();
  bool running() const { return running_; }
  // The machine was reset, which took memory and all that was set up in the processors, and is
  // paused: the guest is stopped. What was asked for stays and is there when it goes on.
  void machine_was_reset();
  // Whether the user has asked for a step that has not ended.
  bool steps_for_user() const;
  // Whether there are watchpoints that this host makes us step for.
  bool steps_for_watch() const;
  // The turn of a vCPU to step while others wait for theirs; nothing where nobody waits. Each has
  // a number of its own.
  std::optional<std::uint64_t> turn() const;
  // That one does not come back (it sleeps), and everyone is paused: it is the next one's turn. As
  // stopped() otherwise.
  Result<std::optional<DebugReport>> pass_turn();

 private:
  struct Planted {
    Gva address = 0;
    std::uint8_t byte = 0;  // the guest's own
  };
  using Slots = std::array<std::optional<HardwareBreakpoint>, DebugControl::kSlots>;
  enum class Inject : std::uint8_t { Nothing, Int3, Debug };
  struct Vcpu {
    GoOn how;
    // Where it was last told to stand at a breakpoint: that one is passed before the guest goes on.
    std::optional<Gva> stood;
    Inject inject = Inject::Nothing;
    bool passes = false;        // has that still before it
    bool resumes = false;       // by RFLAGS.RF
    bool enters = false;        // is to step, and does so by a VM entry
    std::vector<Gva> landings;  // where its step may end besides
    bool halted = false;        // as it is to step
    // Its next step, if that may take an interrupt.
    std::optional<CpuState> before;
    // For stepped watchpoints.
    bool asleep = false;
    WatchedBytes watched;
  };

  struct Places {
    std::optional<Gpa> l1, l2;
  };
  Places places_of(Gva address, const std::vector<VcpuMemory>& memories) const;
  bool has_breakpoint_at(Gva address) const;
  unsigned slots_needed() const;
  Result<void> add(const Breakpoint& breakpoint);
  Result<void> check_watch(const Breakpoint& breakpoint) const;
  void find_places();
  void assign_slots();
  void plant();
  void take_out();
  Result<void> resume();
  Result<void> check_step(unsigned vcpu);
  void look_for_levels(unsigned vcpu);
  std::vector<bool> choose_who();
  Result<void> set_controls(const std::vector<bool>& who);
  std::vector<WatchedRange> stepped_ranges() const;
  Result<void> clean_up_behind_step(unsigned vcpu);
  Result<void> look_before_steps(unsigned vcpu);
  Result<std::optional<DebugReport>> look_after_step(unsigned vcpu);
  Result<std::optional<DebugReport>> look_behind(unsigned vcpu);
  Result<std::optional<DebugReport>> look_behind_others(unsigned vcpu);
  // `there`: a breakpoint, whatever its condition says.
  struct Hit {
    bool there = false;
    std::optional<DebugReport> report;
  };
  Hit breakpoint_hit(unsigned vcpu, Gva address);
  Result<std::optional<DebugReport>> stepped(unsigned vcpu);
  Result<std::optional<DebugReport>> go_on();
  const Breakpoint* watch_hit(std::uint64_t dr6) const;

  DebugTarget& target_;
  PagingFeatures features_;
  DebugSupport support_;
  std::vector<Breakpoint> breakpoints_;
  std::map<Breakpoint, StopCondition> conditions_;
  // Of software breakpoints, as the guest goes on: where int3 can be, by address.
  std::map<Gva, Places> places_;
  bool may_nest_ = false;  // some vCPU may get from one level to the other
  std::map<Gpa, Planted> planted_;
  Slots slots_;
  std::vector<Vcpu> vcpus_;
  std::optional<unsigned> passing_;  // the only one that runs, past its breakpoint
  std::vector<bool> who_;            // runs, or ran last
  bool stepping_ = false;            // for a watchpoint
  bool others_wait_ = false;         // for their turn to step
  unsigned turn_ = 0;                // whose it is or was
  std::uint64_t turns_ = 0;          // there have been
  bool interrupts_in_steps_ = false;
  bool running_ = false;
};

}  // namespace vmm
