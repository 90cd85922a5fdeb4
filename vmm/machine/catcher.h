// --catch: breakpoints at a guest hypervisor's VM entries, over the debugger's own layer. At each
// the rules of VM entry are checked before the instruction is executed, with the registers as they
// are there; behind an exit the reason is read.
//
// Only the vCPU's own stop decides: a breakpoint that another address space or L2 comes upon at the
// same address is passed without a word.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/debugger.h"
#include "vmm/machine/catch_spec.h"
#include "vmm/machine/explain.h"
#include "vmm/machine/monitor_machine.h"

namespace vmm {

struct EntryAhead;
struct ExitBehind;

// One crossing that was asked for.
struct CaughtEvent {
  unsigned vcpu = 0;
  CatchSpec::What what = CatchSpec::What::VmEntry;
  bool fails = false;      // an entry that breaks a rule
  std::string place = {};  // "VMLAUNCH at 101440h (vmx_enter+62h)"
  std::string text = {};   // one line for the user, `place` in it
};

class Catcher {
 public:
  struct Setup {
    std::vector<CatchSpec> specs = {};
    std::vector<Gva> sites = {};  // of VM entries in the image
    bool svm = false;             // what the CPU model has
    std::function<std::string(std::uint32_t msr, unsigned bit)> capability_origin = {};
    // Whether the guest is to stop there.
    std::function<bool(const CaughtEvent& event)> caught = {};
  };
  // All of it outlives the catcher, or goes with it.
  Catcher(DebugTarget& target, MonitorMachine& machine, Debugger& debugger, Setup setup);

  // Sets the breakpoints. Usage errors for an exit reason that there is not, a place that is no
  // address, an image without VM entries, and more of them than there are debug registers; Host
  // errors where this KVM cannot stop there, in one line.
  Result<void> start();
  // No hypervisor awaits an exit any more.
  void machine_was_reset() { awaited_.assign(awaited_.size(), std::nullopt); }

 private:
  bool wants(CatchSpec::What what) const;
  bool wants_exit(const ExitBehind& exit) const;
  Result<std::vector<Gva>> places() const;
  CrashScene scene_of(unsigned vcpu) const;
  bool at_entry(unsigned vcpu);
  bool at_exit(unsigned vcpu, Gva place);
  Result<void> break_at_exit(Gva place);
  void await_exit(unsigned vcpu, const EntryAhead& ahead);
  std::string name_of(Gva address) const;

  DebugTarget& target_;
  MonitorMachine& machine_;
  Debugger& debugger_;
  Setup setup_;
  // Of each vCPU: where its hypervisor goes on when L2 exits, from an entry to that exit.
  std::vector<std::optional<Gva>> awaited_;
  bool complained_ = false;  // that an exit cannot be seen
};

}  // namespace vmm
