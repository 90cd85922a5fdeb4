#include "vmm/core/outcome.h"

#include <gtest/gtest.h>

#include <csignal>
#include <set>
#include <string>
#include <vector>

namespace vmm {
namespace {

struct Case {
  RunOutcome outcome;
  int code;
  const char* kind;
  const char* layer;
  const char* headline;
  bool explained;
};

// Every ending that there is; the codes are a contract with scripts.
std::vector<Case> every_ending() {
  return {
      {ending::GuestExit{3}, 3, "guest-exit", "guest", "the guest wrote 3 to the debug-exit port",
       false},
      {ending::PowerOff{"port 604h"}, 0, "power-off", "guest", "the guest powered off (port 604h)",
       false},
      {ending::Reset{"i8042 command FEh"}, 83, "reset", "guest",
       "the guest asked for a reset (i8042 command FEh)", false},
      {ending::TripleFault{2}, 80, "triple-fault", "guest", "the guest triple-faulted on vCPU 2",
       true},
      {ending::InternalFailure{0, {.suberror = 1}}, 81, "internal-error", "guest",
       "KVM internal error on vCPU 0, suberror 1 (EMULATION)", true},
      {ending::EntryFailure{1, 0x80000021, 5}, 81, "entry-failure", "guest",
       "VM entry failed on vCPU 1, hardware reason 80000021h", true},
      {ending::Caught{1, "VMLAUNCH at 1000h"}, 81, "caught", "guest",
       "caught on vCPU 1: VMLAUNCH at 1000h would fail (--catch vmentry-fail)", true},
      {ending::HaltedForever{}, 82, "halted", "guest", "every vCPU is halted for ever", true},
      {ending::Stalled{2.5}, 82, "stalled", "guest", "no progress for 2.5 s (--stall-timeout)",
       true},
      {ending::TimedOut{10}, 124, "timeout", "host", "still running after 10 s (--timeout)", true},
      {ending::Stopped{SIGTERM}, 143, "signal", "host", "stopped by signal 15 (SIGTERM)", false},
      {ending::Quit{}, 0, "quit", "host", "quit from the console (Ctrl-A x)", false},
      {ending::MonitorFailure{"KVM_RUN: EIO (vcpu 0)"}, 70, "monitor-failure", "monitor",
       "vmm failed: KVM_RUN: EIO (vcpu 0)", false},
  };
}

TEST(Outcome, every_ending_has_code_kind_layer_and_headline) {
  for (const Case& c : every_ending()) {
    EXPECT_EQ(exit_code(c.outcome), c.code) << c.kind;
    EXPECT_EQ(kind_name(c.outcome), c.kind);
    EXPECT_EQ(layer_name(c.outcome), c.layer) << c.kind;
    EXPECT_EQ(headline(c.outcome), c.headline);
    EXPECT_EQ(wants_explanation(c.outcome), c.explained) << c.kind;
  }
}

TEST(Outcome, the_table_above_is_complete_and_kinds_are_unique) {
  std::set<std::size_t> alternatives;
  std::set<std::string_view> kinds;
  for (const Case& c : every_ending()) {
    alternatives.insert(c.outcome.index());
    kinds.insert(kind_name(c.outcome));
  }
  EXPECT_EQ(alternatives.size(), std::variant_size_v<RunOutcome>);
  EXPECT_EQ(kinds.size(), std::variant_size_v<RunOutcome>);
}

TEST(Outcome, guest_values_above_63_are_63) {
  EXPECT_EQ(exit_code(ending::GuestExit{0}), 0);
  EXPECT_EQ(exit_code(ending::GuestExit{63}), 63);
  EXPECT_EQ(exit_code(ending::GuestExit{64}), 63);
  EXPECT_EQ(exit_code(ending::GuestExit{~std::uint64_t{0}}), 63);
  EXPECT_EQ(headline(ending::GuestExit{255}), "the guest wrote 255 to the debug-exit port");
}

TEST(Outcome, the_qemu_protocol_shifts_and_cuts_guest_values_alone) {
  EXPECT_EQ(exit_code(ending::GuestExit{0}, ExitProtocol::Qemu), 1);
  EXPECT_EQ(exit_code(ending::GuestExit{0x10}, ExitProtocol::Qemu), 33);
  EXPECT_EQ(exit_code(ending::GuestExit{127}, ExitProtocol::Qemu), 255);
  EXPECT_EQ(exit_code(ending::GuestExit{128}, ExitProtocol::Qemu), 1);
  EXPECT_EQ(exit_code(ending::GuestExit{~std::uint64_t{0}}, ExitProtocol::Qemu), 255);
  for (const Case& c : every_ending()) {
    if (std::holds_alternative<ending::GuestExit>(c.outcome)) continue;
    EXPECT_EQ(exit_code(c.outcome, ExitProtocol::Qemu), c.code) << c.kind;
  }
}

TEST(Outcome, endings_compare_by_value) {
  EXPECT_EQ(RunOutcome(ending::TripleFault{1}), RunOutcome(ending::TripleFault{1}));
  EXPECT_NE(RunOutcome(ending::TripleFault{1}), RunOutcome(ending::TripleFault{2}));
  EXPECT_NE(RunOutcome(ending::HaltedForever{}), RunOutcome(ending::Quit{}));
}

TEST(Outcome, a_signal_without_a_name_is_still_told) {
  EXPECT_EQ(headline(ending::Stopped{4711}), "stopped by signal 4711 (SIG?)");
}

}  // namespace
}  // namespace vmm
