#include "vmm/machine/run_loop.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/core/uapi.h"

namespace vmm {
namespace {

// The low 8 bytes of what was moved, for the trace.
std::uint64_t traced_value(std::span<const std::uint8_t> data, std::size_t width) {
  return load_uint(data.first(std::min({data.size(), width, std::size_t{8}})));
}

std::string_view name_of(const Device* device) {
  return device != nullptr ? device->name() : std::string_view{};
}

class Handler {
 public:
  Handler(Board& board, unsigned vcpu, Gva rip)
      : board_(board), vcpu_(vcpu), rip_(rip), came_(board.clock.now()) {
    board_.serve(vcpu, rip);
  }
  ~Handler() { board_.serve(kNoVcpu, 0); }
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

  // A string instruction is one exit with `count` elements of `width` bytes at one port.
  Step operator()(const PioIn& e) {
    const Device* device = nullptr;
    for (std::size_t at = 0; at < e.data.size(); at += e.width)
      device = board_.ports.read(e.port, e.data.subspan(at, e.width));
    trace("in", e.port, e.data, e.width, device);
    return next();
  }
  Step operator()(const PioOut& e) {
    const Device* device = nullptr;
    for (std::size_t at = 0; at < e.data.size() && !board_.ending; at += e.width)
      device = board_.ports.write(e.port, e.data.subspan(at, e.width));
    trace("out", e.port, e.data, e.width, device);
    return next();
  }
  Step operator()(const MmioRead& e) {
    const Device* device = lapic_read(e.gpa, e.data);
    if (device == nullptr) device = board_.mmio.read(e.gpa, e.data);
    trace("mmio-read", e.gpa, e.data, e.data.size(), device);
    return next();
  }
  Step operator()(const MmioWrite& e) {
    const Device* device = lapic_write(e.gpa, e.data);
    if (device == nullptr) device = board_.mmio.write(e.gpa, e.data);
    trace("mmio-write", e.gpa, e.data, e.data.size(), device);
    return next();
  }
  // KVM does not know the MSR or refuses the value: the guest gets its #GP, the user a line at the
  // end.
  Step operator()(const MsrRead& e) {
    if (read_msr(e.index, *e.value)) {
      *e.error = 0;
      event({.kind = "rdmsr", .address = e.index, .value = *e.value, .width = 8, .device = kLapic});
      return next();
    }
    *e.error = 1;
    if (MsrCounts* counts = count(e.index)) ++counts->reads;
    event({.kind = "rdmsr", .address = e.index, .value = 0, .width = 8});
    return next();
  }
  Step operator()(const MsrWrite& e) {
    if (write_msr(e.index, e.value)) {
      *e.error = 0;
      event({.kind = "wrmsr", .address = e.index, .value = e.value, .width = 8, .device = kLapic});
      return next();
    }
    *e.error = 1;
    if (MsrCounts* counts = count(e.index)) ++counts->writes;
    event({.kind = "wrmsr", .address = e.index, .value = e.value, .width = 8});
    return next();
  }
  Step operator()(const SystemEvent& e) {
    event({.kind = "system-event", .value = e.type});
    if (e.type == KVM_SYSTEM_EVENT_RESET) return step::Stop{ending::Reset{"KVM system event"}};
    if (e.type == KVM_SYSTEM_EVENT_SHUTDOWN)
      return step::Stop{ending::PowerOff{"KVM system event"}};
    return fail_step(fmt::format("KVM system event {} is not known", e.type));
  }
  Step operator()(const Shutdown&) {
    event({.kind = "shutdown"});
    return step::Stop{ending::TripleFault{vcpu_}};
  }
  Step operator()(const FailEntry& e) {
    event({.kind = "fail-entry", .value = e.reason});
    return step::Stop{ending::EntryFailure{vcpu_, e.reason, e.cpu}};
  }
  Step operator()(const InternalError& e) {
    event({.kind = "internal-error", .value = e.suberror});
    return step::Stop{ending::InternalFailure{vcpu_, e}};
  }
  Step operator()(const Interrupted&) {
    event({.kind = "interrupted"});
    return step::Continue{};
  }
  // Only where the interrupt controller that they concern is ours; else a fault of ours or KVM's.
  Step operator()(const Halt&) {
    if (board_.user_chip() == nullptr) return unexpected(Halt{});
    event({.kind = "hlt"});
    board_.user_chip()->halt(vcpu_);
    return next();
  }
  Step operator()(const IrqWindow&) {
    event({.kind = "irq-window"});
    return board_.plans_entries(vcpu_) ? next() : unexpected(IrqWindow{});
  }
  Step operator()(const SetTpr&) {
    if (board_.user_chip() == nullptr) return unexpected(SetTpr{});
    event({.kind = "set-tpr", .value = board_.user_chip()->lapic(vcpu_).tpr()});
    return next();
  }
  Step operator()(const IoapicEoi& e) {
    if (board_.ioapic() == nullptr) return unexpected(e);
    event({.kind = "ioapic-eoi", .value = e.vector});
    board_.ioapic()->eoi(e.vector);
    return next();
  }
  Step operator()(const DebugStop& e) {
    event({.kind = "debug", .value = e.exception});
    return unexpected(e);
  }
  Step operator()(const UnknownExit& e) {
    event({.kind = "unknown-exit", .value = e.reason});
    return unexpected(e);
  }

 private:
  static constexpr std::string_view kLapic = "lapic";
  static constexpr std::uint32_t kIa32TscDeadline = 0x6e0;
  static constexpr std::uint32_t kX2apicFirst = 0x800;
  static constexpr std::uint32_t kX2apicLast = 0x8ff;

  // A processor reaches its own LAPIC alone, before the bus.
  const Device* lapic_read(Gpa gpa, std::span<std::uint8_t> data) {
    Lapic* lapic = nullptr;
    const auto offset = lapic_at(gpa, lapic);
    if (!offset) return nullptr;
    fill_ones(data);
    (void)lapic->read(*offset, data);
    return lapic;
  }
  const Device* lapic_write(Gpa gpa, std::span<const std::uint8_t> data) {
    Lapic* lapic = nullptr;
    const auto offset = lapic_at(gpa, lapic);
    if (!offset) return nullptr;
    (void)lapic->write(*offset, data);
    return lapic;
  }
  std::optional<std::uint64_t> lapic_at(Gpa gpa, Lapic*& lapic) {
    UserIrqChip* chip = board_.user_chip();
    if (chip == nullptr) return std::nullopt;
    lapic = &chip->lapic(vcpu_);
    const auto offset = chip->register_at(vcpu_, gpa);
    if (offset) lapic->advance(board_.clock.now());
    return offset;
  }
  bool read_msr(std::uint32_t index, std::uint64_t& value) {
    if (board_.user_chip() == nullptr) return false;
    Lapic& lapic = board_.user_chip()->lapic(vcpu_);
    lapic.advance(board_.clock.now());
    if (index == kIa32TscDeadline && board_.has_tsc_deadline()) {
      value = lapic.tsc_deadline();
      return true;
    }
    return index >= kX2apicFirst && index <= kX2apicLast && lapic.read_msr(index, value);
  }
  bool write_msr(std::uint32_t index, std::uint64_t value) {
    if (board_.user_chip() == nullptr) return false;
    Lapic& lapic = board_.user_chip()->lapic(vcpu_);
    lapic.advance(board_.clock.now());
    if (index == kIa32TscDeadline) return board_.set_tsc_deadline(vcpu_, value);
    return index >= kX2apicFirst && index <= kX2apicLast && lapic.write_msr(index, value);
  }

  Step next() {
    board_.sync_routes();
    if (board_.ending) return step::Stop{*board_.ending};
    return step::Continue{};
  }
  Step unexpected(const Exit& exit) {
    return fail_step(fmt::format("KVM_RUN on vCPU {} gave an exit that was not asked for: {}",
                                 vcpu_, to_string(exit)));
  }
  static Step fail_step(std::string what) {
    return step::Stop{ending::MonitorFailure{std::move(what)}};
  }
  MsrCounts* count(std::uint32_t index) {
    if (board_.unknown_msrs.size() >= Board::kMaxMsrs && !board_.unknown_msrs.contains(index))
      return nullptr;
    return &board_.unknown_msrs[index];
  }
  void trace(TraceKind kind, std::uint64_t address, std::span<const std::uint8_t> data,
             std::size_t width, const Device* device) {
    event({.kind = kind,
           .address = address,
           .value = traced_value(data, width),
           .width = static_cast<std::uint32_t>(width),
           .count = static_cast<std::uint32_t>(data.size() / width),
           .device = name_of(device)});
  }
  void event(TraceEvent event) {
    event.time = came_;
    event.vcpu = vcpu_;
    event.rip = rip_;
    board_.event(event);
  }

  Board& board_;
  unsigned vcpu_;
  Gva rip_;
  VmTime came_;
};

}  // namespace

Step handle_exit(const Exit& exit, Board& board, unsigned vcpu, Gva rip) {
  Handler handler(board, vcpu, rip);
  return std::visit(handler, exit);
}

}  // namespace vmm
