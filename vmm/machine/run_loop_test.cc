#include "vmm/machine/run_loop.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>

#include "vmm/core/irq_fake.h"
#include "vmm/core/uapi.h"

namespace vmm {
namespace {

class Sink final : public ByteSink {
 public:
  bool put(std::uint8_t byte) override {
    text += static_cast<char>(byte);
    return true;
  }
  std::string text;
};

class RunLoop : public testing::Test {
 protected:
  RunLoop() : window_(kVgaWindowSize) {
    board_ = *Board::create({.kernel_irq = &irq_,
                             .serial_out = &serial_,
                             .debugcon_out = &debugcon_,
                             .vga_window = window_,
                             .vga_trap = true});
  }
  Step out(std::uint16_t port, std::vector<std::uint8_t> data, std::uint8_t width) {
    return handle_exit(PioOut{port, width, data}, *board_, 0, 0x1000);
  }
  static const RunOutcome* outcome(const Step& step) {
    const auto* stop = std::get_if<step::Stop>(&step);
    return stop != nullptr ? &stop->outcome : nullptr;
  }

  RecordingIrq irq_;
  Sink serial_;
  Sink debugcon_;
  std::vector<std::uint8_t> window_;
  std::unique_ptr<Board> board_;
};

TEST_F(RunLoop, a_byte_for_the_serial_port_comes_out_at_its_sink) {
  EXPECT_EQ(outcome(out(0x3f8, {'A'}, 1)), nullptr);
  EXPECT_EQ(serial_.text, "A");
}

TEST_F(RunLoop, a_string_instruction_is_one_exit_with_all_its_elements) {
  out(0xe9, {'o', 'n', 'e'}, 1);
  EXPECT_EQ(debugcon_.text, "one");
  std::array<std::uint8_t, 4> data{};
  handle_exit(PioIn{0xe9, 1, data}, *board_, 0, 0);
  EXPECT_EQ(data, (std::array<std::uint8_t, 4>{0xe9, 0xe9, 0xe9, 0xe9}));
}

TEST_F(RunLoop, the_debug_exit_port_ends_the_run_with_its_value) {
  const Step step = out(0xf4, {42, 0, 0, 0}, 4);
  ASSERT_NE(outcome(step), nullptr);
  EXPECT_EQ(*outcome(step), RunOutcome(ending::GuestExit{42}));
}

TEST_F(RunLoop, elements_after_the_end_of_the_run_are_not_served) {
  const Step step = out(0xf4, {1, 2, 3}, 1);
  EXPECT_EQ(*outcome(step), RunOutcome(ending::GuestExit{1}));
}

TEST_F(RunLoop, the_i8042_reset_pulse_asks_for_a_reset) {
  const Step step = out(0x64, {0xfe}, 1);
  ASSERT_NE(outcome(step), nullptr);
  EXPECT_TRUE(std::holds_alternative<ending::Reset>(*outcome(step)));
  EXPECT_EQ(exit_code(*outcome(step)), 83);
}

TEST_F(RunLoop, the_shutdown_port_powers_off) {
  const Step step = out(0x604, {0x00, 0x20}, 2);
  ASSERT_NE(outcome(step), nullptr);
  EXPECT_EQ(exit_code(*outcome(step)), 0);
  EXPECT_EQ(kind_name(*outcome(step)), "power-off");
}

TEST_F(RunLoop, unclaimed_ports_and_memory_read_all_ones_and_are_counted) {
  std::array<std::uint8_t, 4> data{};
  handle_exit(PioIn{0x2e9, 4, data}, *board_, 0, 0);
  EXPECT_EQ(data, (std::array<std::uint8_t, 4>{0xff, 0xff, 0xff, 0xff}));
  handle_exit(MmioRead{0xd0000000, data}, *board_, 0, 0);
  handle_exit(MmioWrite{0xd0000000, data}, *board_, 0, 0);
  EXPECT_EQ(board_->ports.unclaimed().at(0x2e9).reads, 1u);
  EXPECT_EQ(board_->mmio.unclaimed().at(0xd0000000).reads, 1u);
  EXPECT_EQ(board_->mmio.unclaimed().at(0xd0000000).writes, 1u);
}

TEST_F(RunLoop, trapped_screen_memory_takes_writes_and_is_traced_with_the_address) {
  const std::array<std::uint8_t, 2> cell = {'H', 7};
  handle_exit(MmioWrite{0xb8000, cell}, *board_, 3, 0x4711);
  EXPECT_EQ(window_[0x18000], 'H');
  const TraceEvent event = board_->recorder.last(1).front();
  EXPECT_EQ(event.kind.name(), "mmio-write");
  EXPECT_EQ(event.address, 0xb8000u);
  EXPECT_EQ(event.value, 0x0748u);
  EXPECT_EQ(event.vcpu, 3u);
  EXPECT_EQ(event.rip, 0x4711u);
  EXPECT_EQ(event.device, "vga-memory");
}

TEST_F(RunLoop, an_msr_that_kvm_does_not_know_faults_and_is_counted) {
  std::uint64_t value = 0;
  std::uint8_t error = 0;
  handle_exit(MsrRead{0xc0011020, KVM_MSR_EXIT_REASON_UNKNOWN, &value, &error}, *board_, 0, 0);
  EXPECT_EQ(error, 1);
  error = 0;
  handle_exit(MsrWrite{0xc0011020, KVM_MSR_EXIT_REASON_INVAL, 5, &error}, *board_, 0, 0);
  EXPECT_EQ(error, 1);
  EXPECT_EQ(board_->unknown_msrs.at(0xc0011020).reads, 1u);
  EXPECT_EQ(board_->unknown_msrs.at(0xc0011020).writes, 1u);
}

TEST_F(RunLoop, different_unknown_msrs_do_not_grow_without_bound) {
  std::uint64_t value = 0;
  std::uint8_t error = 0;
  for (std::uint32_t i = 0; i < 5000; ++i)
    handle_exit(MsrRead{i, KVM_MSR_EXIT_REASON_UNKNOWN, &value, &error}, *board_, 0, 0);
  EXPECT_EQ(board_->unknown_msrs.size(), Board::kMaxMsrs);
}

TEST_F(RunLoop, deaths_become_outcomes_with_the_vcpu) {
  InternalError internal;
  internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
  internal.ndata = 1;
  internal.data[0] = 0x80000b0e;
  const std::vector<std::pair<Exit, RunOutcome>> deaths = {
      {Shutdown{}, ending::TripleFault{2}},
      {FailEntry{0x80000021, 1}, ending::EntryFailure{2, 0x80000021, 1}},
      {internal, ending::InternalFailure{2, internal}},
      {SystemEvent{KVM_SYSTEM_EVENT_RESET}, ending::Reset{"KVM system event"}},
      {SystemEvent{KVM_SYSTEM_EVENT_SHUTDOWN}, ending::PowerOff{"KVM system event"}},
  };
  for (const auto& [exit, expected] : deaths) {
    const Step step = handle_exit(exit, *board_, 2, 0);
    ASSERT_NE(outcome(step), nullptr) << to_string(exit);
    EXPECT_EQ(*outcome(step), expected) << to_string(exit);
  }
}

TEST_F(RunLoop, exits_that_nobody_asked_for_are_faults_of_ours) {
  for (const Exit& exit : {Exit{Halt{}}, Exit{IrqWindow{}}, Exit{SetTpr{}}, Exit{IoapicEoi{1}},
                           Exit{DebugStop{}}, Exit{UnknownExit{99}}, Exit{SystemEvent{77}}}) {
    const Step step = handle_exit(exit, *board_, 0, 0);
    ASSERT_NE(outcome(step), nullptr) << to_string(exit);
    EXPECT_EQ(exit_code(*outcome(step)), 70) << to_string(exit);
  }
  EXPECT_EQ(outcome(handle_exit(Interrupted{}, *board_, 0, 0)), nullptr);
}

TEST_F(RunLoop, every_exit_is_an_event) {
  InternalError internal;
  std::uint64_t value = 0;
  std::uint8_t error = 0;
  std::array<std::uint8_t, 4> data{};
  const std::vector<std::pair<Exit, std::string>> exits = {
      {PioIn{0x2e9, 1, std::span(data).first(1)}, "in"},
      {PioOut{0xe9, 1, std::span(data).first(1)}, "out"},
      {MmioRead{0xd0000000, data}, "mmio-read"},
      {MmioWrite{0xd0000000, data}, "mmio-write"},
      {MsrRead{0x123, 0, &value, &error}, "rdmsr"},
      {MsrWrite{0x123, 0, 0, &error}, "wrmsr"},
      {Interrupted{}, "interrupted"},
      {IrqWindow{}, "irq-window"},
      {DebugStop{3, 0, 0, 0}, "debug"},
      {SystemEvent{1}, "system-event"},
      {Shutdown{}, "shutdown"},
      {FailEntry{7, 0}, "fail-entry"},
      {internal, "internal-error"},
      {UnknownExit{99}, "unknown-exit"},
  };
  for (const auto& [exit, kind] : exits) {
    handle_exit(exit, *board_, 2, 0x4711);
    const TraceEvent event = board_->recorder.last(1).front();
    EXPECT_EQ(event.kind.name(), kind);
    EXPECT_TRUE(event.kind.in_group(trace_group::kExit)) << kind;
    EXPECT_EQ(event.vcpu, 2u) << kind;
    EXPECT_EQ(event.rip, 0x4711u) << kind;
  }
}

}  // namespace
}  // namespace vmm
