// What we do with an exit, without KVM's part of it, and what of that is the flight recorder's.
#include <benchmark/benchmark.h>

#include <array>
#include <vector>

#include "vmm/base/check.h"
#include "vmm/core/irq_fake.h"
#include "vmm/machine/run_loop.h"

namespace vmm {
namespace {

std::unique_ptr<Board> make_board(IrqSink& irq, std::span<std::uint8_t> window) {
  auto board = Board::create({.kernel_irq = &irq, .vga_window = window});
  VMM_CHECK(board.has_value(), "the board of the benchmark is wired");
  return std::move(*board);
}

class Exits : public benchmark::Fixture {
 protected:
  void serve(benchmark::State& state, const Exit& exit) {
    for ([[maybe_unused]] const auto iteration : state)
      benchmark::DoNotOptimize(handle_exit(exit, *board_, 0, 0x1000));
  }

  RecordingIrq irq_;
  std::vector<std::uint8_t> window_ = std::vector<std::uint8_t>(kVgaWindowSize);
  std::unique_ptr<Board> board_ = make_board(irq_, window_);
  std::array<std::uint8_t, 4> data_{};
};

BENCHMARK_F(Exits, pio_in_port92)(benchmark::State& state) {
  serve(state, PioIn{0x92, 1, std::span(data_).first(1)});
}
BENCHMARK_F(Exits, pio_in_unclaimed)(benchmark::State& state) {
  serve(state, PioIn{0x240, 1, std::span(data_).first(1)});
}
BENCHMARK_F(Exits, mmio_unclaimed)(benchmark::State& state) {
  serve(state, MmioRead{0xf0000000, data_});
}

// All that an exit spends on being remembered: the time, the event, its place in the ring.
BENCHMARK_F(Exits, flight_recorder)(benchmark::State& state) {
  std::uint64_t value = 0;
  for ([[maybe_unused]] const auto iteration : state) {
    board_->event({.time = board_->clock.now(),
                   .rip = 0x1000,
                   .kind = "in",
                   .address = 0x92,
                   .value = value++,
                   .width = 1,
                   .device = "port92"});
    benchmark::ClobberMemory();
  }
}

}  // namespace
}  // namespace vmm

BENCHMARK_MAIN();
