// How a guest ended, as a value. Why it ended is explain()'s matter (vmm/machine/explain.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "vmm/core/exit.h"

namespace vmm {

namespace ending {

struct GuestExit {  // a write to the debug-exit port
  std::uint64_t value = 0;
  bool operator==(const GuestExit&) const = default;
};
struct PowerOff {
  std::string via;  // "port 604h"
  bool operator==(const PowerOff&) const = default;
};
struct Reset {
  std::string via;  // "i8042 command FEh"
  bool operator==(const Reset&) const = default;
};
struct TripleFault {
  unsigned vcpu = 0;
  bool operator==(const TripleFault&) const = default;
};
struct InternalFailure {  // KVM_EXIT_INTERNAL_ERROR
  unsigned vcpu = 0;
  InternalError error;
  bool operator==(const InternalFailure&) const = default;
};
struct EntryFailure {  // KVM_EXIT_FAIL_ENTRY
  unsigned vcpu = 0;
  std::uint64_t reason = 0;
  std::uint32_t host_cpu = 0;
  bool operator==(const EntryFailure&) const = default;
};
struct Caught {  // --catch vmentry-fail: a guest hypervisor before a VM entry that will fail
  unsigned vcpu = 0;
  std::string what;  // "VMLAUNCH at 101440h (vmx_enter+62h)"
  bool operator==(const Caught&) const = default;
};
struct HaltedForever {  // every vCPU halted with IF=0, or waiting for a SIPI that no one can send
  bool operator==(const HaltedForever&) const = default;
};
struct Stalled {  // --stall-timeout
  double seconds = 0;
  bool operator==(const Stalled&) const = default;
};
struct TimedOut {  // --timeout
  double seconds = 0;
  bool operator==(const TimedOut&) const = default;
};
struct Stopped {  // a signal to us
  int signal = 0;
  bool operator==(const Stopped&) const = default;
};
struct Quit {  // the user's Ctrl-A x
  bool operator==(const Quit&) const = default;
};
struct MonitorFailure {  // our own fault or a system call that failed while the guest ran
  std::string what;
  bool operator==(const MonitorFailure&) const = default;
};

}  // namespace ending

using RunOutcome =
    std::variant<ending::GuestExit, ending::PowerOff, ending::Reset, ending::TripleFault,
                 ending::InternalFailure, ending::EntryFailure, ending::Caught,
                 ending::HaltedForever, ending::Stalled, ending::TimedOut, ending::Stopped,
                 ending::Quit, ending::MonitorFailure>;

// --exit-protocol: what a write of v to port f4h becomes.
enum class ExitProtocol {
  Plain,  // v, at most 63
  Qemu,   // (v << 1) | 1, cut to 8 bits, as QEMU's isa-debug-exit
};

// The exit code of `vmm run` (docs/outcome.md has the table).
int exit_code(const RunOutcome& outcome, ExitProtocol protocol = ExitProtocol::Plain);
// A stable word for programs: "guest-exit", "triple-fault", ...
std::string_view kind_name(const RunOutcome& outcome);
// Who ended the run: "guest", "monitor" or "host".
std::string_view layer_name(const RunOutcome& outcome);
// One sentence: "the guest triple-faulted on vCPU 0".
std::string headline(const RunOutcome& outcome);
// True for endings that deserve a crash card.
bool wants_explanation(const RunOutcome& outcome);
// Whether a processor could not go on: its registers and memory are a crash's.
bool is_death(const RunOutcome& outcome);

}  // namespace vmm
