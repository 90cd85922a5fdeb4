// The PC: which chip sits where. One object under one lock (Machine holds it in Guarded).
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "devices/acpi_pm.h"
#include "devices/bochs_shutdown.h"
#include "devices/debug_exit.h"
#include "devices/debugcon.h"
#include "devices/i8042.h"
#include "devices/port92.h"
#include "devices/reset_port.h"
#include "devices/serial16550.h"
#include "devices/vga_text.h"
#include "vmm/core/bus.h"
#include "vmm/core/clock.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/irq.h"
#include "vmm/core/outcome.h"
#include "vmm/core/trace.h"

namespace vmm {

struct MsrCounts {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
};

class Board {
 public:
  struct Wiring {
    IrqSink* irq = nullptr;  // the interrupt chip
    ByteSink* serial_out = nullptr;
    ByteSource* serial_in = nullptr;
    ByteSink* debugcon_out = nullptr;
    std::span<std::uint8_t> vga_window;  // 128 KiB behind A0000h
    bool vga_trap = false;
  };
  static Result<std::unique_ptr<Board>> create(const Wiring& wiring);

  Bus ports{"port", 0x10000};
  Bus mmio{"mmio", std::uint64_t{1} << 52};
  HostClock clock;
  FlightRecorder recorder;
  Tracer* trace = nullptr;  // a second listener, --trace

  // How a device ended the run, once one did.
  std::optional<RunOutcome> ending;
  // MSRs that the guest touched and KVM does not know; at most kMaxMsrs different ones.
  static constexpr std::size_t kMaxMsrs = 256;
  std::map<std::uint32_t, MsrCounts> unknown_msrs;

  std::array<Device*, 9> devices() const;
  Serial16550& serial() { return *serial_; }
  VgaText& vga() { return *vga_; }

  // Brings every device to now: input arrived, output was taken, time passed.
  void advance();
  // When advance() must be called next, over all devices.
  std::optional<VmTime> next_deadline() const;
  void event(const TraceEvent& event);

 private:
  explicit Board(const Wiring& wiring);
  Result<void> wire(const Wiring& wiring);

  IrqPins pins_;
  std::unique_ptr<Serial16550> serial_;
  std::unique_ptr<VgaText> vga_;
  std::unique_ptr<VgaWindow> vga_window_;
  std::unique_ptr<DebugExit> debug_exit_;
  std::unique_ptr<Debugcon> debugcon_;
  std::unique_ptr<I8042> i8042_;
  std::unique_ptr<Port92> port92_;
  std::unique_ptr<ResetPort> reset_port_;
  std::unique_ptr<AcpiPm> acpi_pm_;
  std::unique_ptr<BochsShutdownPort> bochs_shutdown_;
};

}  // namespace vmm
