// The input is a script of guest accesses, time steps and typed bytes; after each script a chip
// must save and load, or the screen be drawn.
#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "devices/acpi_pm.h"
#include "devices/bochs_shutdown.h"
#include "devices/debug_exit.h"
#include "devices/debugcon.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/pc_testdev.h"
#include "devices/pci_host.h"
#include "devices/pflash.h"
#include "devices/pic8259.h"
#include "devices/pit8254.h"
#include "devices/port92.h"
#include "devices/post_port.h"
#include "devices/reset_port.h"
#include "devices/rtc_cmos.h"
#include "devices/serial16550.h"
#include "devices/streams_fake.h"
#include "devices/vga_png.h"
#include "devices/vga_text.h"
#include "vmm/base/check.h"
#include "vmm/core/flash_store_fake.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxSteps = 4096;

struct Board {
  RecordingIrq irq;
  IrqPins pins{irq, 24};
  FakeSink sink;
  FakeSource source;
  std::vector<std::uint8_t> window = std::vector<std::uint8_t>(VgaText::kWindowSize);
  Serial16550 serial{"serial0", pins.line(4), &sink, &source};
  VgaText vga{"vga", window};
  VgaWindow vga_window{"vga-window", vga};
  DebugExit debug_exit{"debug-exit", nullptr};
  Debugcon debugcon{"debugcon", &sink};
  GuestMemory memory = std::move(GuestMemory::create(1_MiB)).value();
  FwCfg fw_cfg{"fw-cfg", &memory};
  I8042 i8042{"i8042", IrqLine(), nullptr};
  AcpiPm pm{"acpi-pm", pins.line(9), {}};
  BochsShutdownPort bochs{"bochs-shutdown", nullptr};
  PcTestdev testdev{"testdev", lines(), nullptr};
  Port92 port92{"port92", nullptr};
  PostPort post{"post"};
  ResetPort reset_port{"rst-cnt", nullptr};
  PciHost pci{"pci", &reset_port};

  std::array<IrqLine, PcTestdev::kLines> lines() {
    std::array<IrqLine, PcTestdev::kLines> all;
    for (unsigned n = 0; n < all.size(); ++n) all[n] = pins.line(n);
    return all;
  }
  Pic8259 pic{"pic", nullptr};
  Ioapic ioapic{"ioapic", 0x20, nullptr};
  Lapic lapic{"lapic0", 0, true, {}};
  Pit8254 pit{"pit", pins.line(0)};
  RtcCmos rtc{"rtc", pins.line(8), 1700000000};
  FakeFlashStore flash_store{0x2000};
  PFlash flash{"vars", flash_store};
  std::array<Device*, 20> devices = {&serial,  &vga,        &vga_window, &debug_exit, &debugcon,
                                     &i8042,   &pm,         &bochs,      &port92,     &post,
                                     &testdev, &reset_port, &fw_cfg,     &pci,        &pic,
                                     &ioapic,  &lapic,      &pit,        &rtc,        &flash};
  Board() {
    lapic.allow_tsc_deadline(true);
    flash_store.remembers = false;
  }
};

// What reaches a LAPIC besides its page: modes, MSRs, interrupts, pins, a processor that takes
// them.
void poke(Lapic& lapic, std::uint8_t action, std::uint8_t a, std::uint8_t b) {
  constexpr std::array<std::uint64_t, 4> kBases = {0xfee00900, 0xfee00d00, 0xfee00100, 0xfed40900};
  const std::uint64_t value = std::uint64_t{b} << (a & 31);
  std::uint64_t read = 0;
  switch (action & 7) {
    case 0:
      lapic.set_base(kBases[a % kBases.size()]);
      break;
    case 1:
      (void)lapic.write_msr(0x800 + (a & 0x3fu), value);
      break;
    case 2:
      (void)lapic.read_msr(0x800 + a, read);
      break;
    case 3:
      lapic.accept(a, (b & 1) != 0);
      break;
    case 4:
      lapic.set_lint(a & 1, (b & 1) != 0);
      break;
    case 5:
      lapic.set_tsc_deadline(value, VmTime(static_cast<std::int64_t>(value) - 1000));
      break;
    case 6:
      (void)lapic.write(a * std::uint64_t{16}, std::array<std::uint8_t, 4>{b, a, b, a});
      break;
    default:
      if (const auto vector = lapic.pending()) lapic.acknowledge(*vector);
      break;
  }
  VMM_CHECK(!lapic.requested() || *lapic.requested() >= 16, "an illegal vector was accepted");
  (void)lapic.matches(static_cast<std::uint32_t>(value), (action & 8) != 0);
  (void)lapic.next_deadline();
}

void draw(const VgaSnapshot& screen) {
  VMM_CHECK(screen.cells.size() == std::size_t{screen.columns} * screen.rows, "a cell is missing");
  (void)render_text(screen);
  (void)render_ansi(screen);
  // The larger ones only take time.
  if (screen.cells.size() <= 100) VMM_CHECK(render_png(screen).has_value(), "libpng refused");
}

void run(std::span<const std::uint8_t> script) {
  if (script.empty()) return;
  const std::uint8_t first = script[0];
  script = script.subspan(1);
  Board board;
  board.sink.room = 64;
  // What the guest has in its memory for DMA to find.
  VMM_CHECK(board.memory.write(0, script.first(std::min<std::size_t>(script.size(), 4_KiB))),
            "low memory is RAM");
  VmTime now{0};
  for (std::size_t step = 0; script.size() >= 4 && step < kMaxSteps; ++step) {
    const std::uint8_t action = script[0];
    Device& device = *board.devices[script[1] % board.devices.size()];
    const std::uint64_t offset = script[2] | ((action & 0x80) != 0 ? 0x18000u : 0u);
    const std::size_t width = std::size_t{1} << ((action >> 3) & 3);
    std::array<std::uint8_t, 8> data;
    data.fill(script[3]);
    switch (action & 7) {
      case 0:
        now += VmTime(script[2] * 1000);
        device.advance(now);
        break;
      case 1:
        if (&device == &board.lapic) {
          poke(board.lapic, action >> 3, script[2], script[3]);
          break;
        }
        if (board.source.bytes.size() < 64) board.source.bytes.push_back(script[3]);
        board.sink.room = script[2];
        board.ioapic.set_pin(script[2] % Ioapic::kPins, (script[3] & 1) != 0);
        board.ioapic.eoi(script[3]);
        board.pic.set_irq(script[2] % 16, (script[3] & 1) != 0);
        if ((script[3] & 6) == 0) board.pic.acknowledge();
        break;
      case 2:
      case 3:
      case 4:
        (void)device.read(offset, std::span(data).first(width));
        break;
      default:
        (void)device.write(offset, std::span<const std::uint8_t>(data).first(width));
        break;
    }
    script = script.subspan(4);
  }
  VMM_CHECK(board.serial.state().rx.size() <= Serial16550::kFifoSize, "the RX FIFO grew");
  VMM_CHECK(board.serial.state().tx.size() <= Serial16550::kFifoSize, "the TX FIFO grew");
  // The first byte chooses what is looked at afterwards; all of it every time would be slow.
  const std::size_t chosen = first % board.devices.size();
  if (board.devices[chosen] == &board.vga_window) draw(board.vga.snapshot());
  Board other;
  const StateBlock saved = save_state(*board.devices[chosen]);
  VMM_CHECK(load_state(*other.devices[chosen], saved).has_value(), "a saved state was refused");
  VMM_CHECK(save_state(*other.devices[chosen]) == saved, "a loaded state differs");
}

}  // namespace
}  // namespace vmm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vmm::run({data, size});
  return 0;
}
