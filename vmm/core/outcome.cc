#include "vmm/core/outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace vmm {

using namespace ending;  // NOLINT(google-build-using-namespace): the alternatives of this file

int exit_code(const RunOutcome& outcome, ExitProtocol protocol) {
  return std::visit(Overload{
                        [protocol](const GuestExit& e) {
                          if (protocol == ExitProtocol::Qemu)
                            return static_cast<int>(((e.value << 1) | 1) & 0xff);
                          return static_cast<int>(std::min<std::uint64_t>(e.value, 63));
                        },
                        [](const PowerOff&) { return 0; },
                        [](const Reset&) { return 83; },
                        [](const TripleFault&) { return 80; },
                        [](const InternalFailure&) { return 81; },
                        [](const EntryFailure&) { return 81; },
                        [](const Caught&) { return 81; },
                        [](const HaltedForever&) { return 82; },
                        [](const Stalled&) { return 82; },
                        [](const TimedOut&) { return 124; },
                        [](const Stopped& e) { return 128 + e.signal; },
                        [](const Quit&) { return 0; },
                        [](const MonitorFailure&) { return 70; },
                    },
                    outcome);
}

std::string_view kind_name(const RunOutcome& outcome) {
  return std::visit(Overload{
                        [](const GuestExit&) { return "guest-exit"; },
                        [](const PowerOff&) { return "power-off"; },
                        [](const Reset&) { return "reset"; },
                        [](const TripleFault&) { return "triple-fault"; },
                        [](const InternalFailure&) { return "internal-error"; },
                        [](const EntryFailure&) { return "entry-failure"; },
                        [](const Caught&) { return "caught"; },
                        [](const HaltedForever&) { return "halted"; },
                        [](const Stalled&) { return "stalled"; },
                        [](const TimedOut&) { return "timeout"; },
                        [](const Stopped&) { return "signal"; },
                        [](const Quit&) { return "quit"; },
                        [](const MonitorFailure&) { return "monitor-failure"; },
                    },
                    outcome);
}

std::string_view layer_name(const RunOutcome& outcome) {
  return std::visit(Overload{
                        [](const MonitorFailure&) { return "monitor"; },
                        [](const Stopped&) { return "host"; },
                        [](const Quit&) { return "host"; },
                        [](const TimedOut&) { return "host"; },
                        [](const auto&) { return "guest"; },
                    },
                    outcome);
}

std::string headline(const RunOutcome& outcome) {
  return std::visit(
      Overload{
          [](const GuestExit& e) {
            return fmt::format("the guest wrote {} to the debug-exit port", e.value);
          },
          [](const PowerOff& e) { return fmt::format("the guest powered off ({})", e.via); },
          [](const Reset& e) { return fmt::format("the guest asked for a reset ({})", e.via); },
          [](const TripleFault& e) {
            return fmt::format("the guest triple-faulted on vCPU {}", e.vcpu);
          },
          [](const InternalFailure& e) {
            return fmt::format("KVM internal error on vCPU {}, suberror {} ({})", e.vcpu,
                               e.error.suberror, suberror_name(e.error.suberror));
          },
          [](const EntryFailure& e) {
            return fmt::format("VM entry failed on vCPU {}, hardware reason {:x}h", e.vcpu,
                               e.reason);
          },
          [](const Caught& e) {
            return fmt::format("caught on vCPU {}: {} would fail (--catch vmentry-fail)", e.vcpu,
                               e.what);
          },
          [](const HaltedForever&) { return std::string("every vCPU is halted for ever"); },
          [](const Stalled& e) {
            return fmt::format("no progress for {} s (--stall-timeout)", e.seconds);
          },
          [](const TimedOut& e) {
            return fmt::format("still running after {} s (--timeout)", e.seconds);
          },
          [](const Stopped& e) {
            const char* name = sigabbrev_np(e.signal);
            return fmt::format("stopped by signal {} (SIG{})", e.signal,
                               name != nullptr ? name : "?");
          },
          [](const Quit&) { return std::string("quit from the console (Ctrl-A x)"); },
          [](const MonitorFailure& e) { return fmt::format("vmm failed: {}", e.what); },
      },
      outcome);
}

bool wants_explanation(const RunOutcome& outcome) {
  return std::visit(Overload{
                        [](const TripleFault&) { return true; },
                        [](const InternalFailure&) { return true; },
                        [](const EntryFailure&) { return true; },
                        [](const Caught&) { return true; },
                        [](const HaltedForever&) { return true; },
                        [](const Stalled&) { return true; },
                        [](const TimedOut&) { return true; },
                        [](const auto&) { return false; },
                    },
                    outcome);
}

bool is_death(const RunOutcome& outcome) {
  return std::holds_alternative<TripleFault>(outcome) ||
         std::holds_alternative<InternalFailure>(outcome) ||
         std::holds_alternative<EntryFailure>(outcome);
}

}  // namespace vmm
