#include "vmm/machine/pc_board.h"

namespace vmm {
namespace {

constexpr unsigned kIrqPins = 24;
constexpr unsigned kCom1Irq = 4;
constexpr unsigned kSci = 9;

}  // namespace

Result<std::unique_ptr<Board>> Board::create(const Wiring& wiring) {
  std::unique_ptr<Board> board(new Board(wiring));
  VMM_TRY(board->wire(wiring));
  return board;
}

Board::Board(const Wiring& wiring) : pins_(*wiring.irq, kIrqPins) {}

// The wiring diagram: make, map, connect, from low ports to high.
Result<void> Board::wire(const Wiring& wiring) {
  const auto end_as = [this](RunOutcome outcome) {
    if (!ending) ending = std::move(outcome);
  };

  // The keyboard controller: nothing is plugged in, but command FEh resets the machine.
  i8042_ = std::make_unique<I8042>(
      "i8042", [end_as] { end_as(ending::Reset{"i8042 command FEh at port 64h"}); });
  VMM_TRY(ports.map({.base = 0x60, .size = 1, .width = BusWidth::Byte}, *i8042_));
  VMM_TRY(
      ports.map({.base = 0x64, .size = 1, .displacement = 4, .width = BusWidth::Byte}, *i8042_));

  port92_ =
      std::make_unique<Port92>("port92", [end_as] { end_as(ending::Reset{"port 92h bit 0"}); });
  VMM_TRY(ports.map({.base = 0x92, .size = 1, .width = BusWidth::Byte}, *port92_));

  // Debug console and debug exit, as Bochs and QEMU have them.
  debugcon_ = std::make_unique<Debugcon>("debugcon", wiring.debugcon_out);
  VMM_TRY(ports.map({.base = 0xe9, .size = 1, .width = BusWidth::Byte}, *debugcon_));
  VMM_TRY(ports.map({.base = 0x402, .size = 1, .width = BusWidth::Byte}, *debugcon_));
  debug_exit_ = std::make_unique<DebugExit>(
      "debug-exit", [end_as](std::uint64_t value) { end_as(ending::GuestExit{value}); });
  VMM_TRY(ports.map({.base = 0xf4, .size = 4}, *debug_exit_));

  // The VGA's registers; its memory is guest RAM unless accesses are to be trapped.
  vga_ = std::make_unique<VgaText>("vga", wiring.vga_window);
  VMM_TRY(ports.map({.base = 0x3b0, .size = 0x30, .width = BusWidth::Byte}, *vga_));
  if (wiring.vga_trap) {
    vga_window_ = std::make_unique<VgaWindow>("vga-memory", *vga_);
    VMM_TRY(mmio.map({.base = kVgaWindow, .size = kVgaWindowSize}, *vga_window_));
  }

  serial_ = std::make_unique<Serial16550>("serial0", pins_.line(kCom1Irq), wiring.serial_out,
                                          wiring.serial_in);
  VMM_TRY(ports.map({.base = 0x3f8, .size = 8, .width = BusWidth::Byte}, *serial_));

  // Ways to switch the machine off or reset it.
  acpi_pm_ = std::make_unique<AcpiPm>(
      "acpi-pm", pins_.line(kSci),
      AcpiPm::Calls{.power_off = [end_as] { end_as(ending::PowerOff{"port 604h"}); },
                    .suspend = nullptr});
  VMM_TRY(ports.map({.base = 0x600, .size = 0x10}, *acpi_pm_));
  reset_port_ =
      std::make_unique<ResetPort>("reset", [end_as] { end_as(ending::Reset{"port CF9h"}); });
  VMM_TRY(ports.map({.base = 0xcf9, .size = 1}, *reset_port_));
  bochs_shutdown_ = std::make_unique<BochsShutdownPort>(
      "bochs-shutdown", [end_as] { end_as(ending::PowerOff{"\"Shutdown\" at port 8900h"}); });
  VMM_TRY(ports.map({.base = 0x8900, .size = 1, .width = BusWidth::Byte}, *bochs_shutdown_));
  return {};
}

std::array<Device*, 9> Board::devices() const {
  return {serial_.get(),  vga_.get(),        i8042_.get(),
          port92_.get(),  debugcon_.get(),   debug_exit_.get(),
          acpi_pm_.get(), reset_port_.get(), bochs_shutdown_.get()};
}

void Board::advance() {
  const VmTime now = clock.now();
  for (Device* device : devices()) device->advance(now);
}

std::optional<VmTime> Board::next_deadline() const {
  std::optional<VmTime> soonest;
  for (const Device* device : devices())
    if (const auto deadline = device->next_deadline();
        deadline && (!soonest || *deadline < *soonest))
      soonest = deadline;
  return soonest;
}

void Board::event(const TraceEvent& event) {
  recorder.event(event);
  if (trace != nullptr) trace->event(event);
}

}  // namespace vmm
