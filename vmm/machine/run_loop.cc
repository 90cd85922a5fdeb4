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
  Handler(Board& board, unsigned vcpu, Gva rip) : board_(board), vcpu_(vcpu), rip_(rip) {}

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
    const Device* device = board_.mmio.read(e.gpa, e.data);
    trace("mmio-read", e.gpa, e.data, e.data.size(), device);
    return next();
  }
  Step operator()(const MmioWrite& e) {
    const Device* device = board_.mmio.write(e.gpa, e.data);
    trace("mmio-write", e.gpa, e.data, e.data.size(), device);
    return next();
  }
  // KVM does not know the MSR or refuses the value: the guest gets its #GP, the user a line at the
  // end.
  Step operator()(const MsrRead& e) {
    *e.error = 1;
    if (MsrCounts* counts = count(e.index)) ++counts->reads;
    event({.kind = "rdmsr", .address = e.index, .value = 0, .width = 8});
    return next();
  }
  Step operator()(const MsrWrite& e) {
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
  Step operator()(const Interrupted&) { return step::Continue{}; }
  // With KVM's interrupt chips these never reach us; one that does is a fault of ours or KVM's.
  Step operator()(const Halt&) { return unexpected(Halt{}); }
  Step operator()(const IrqWindow&) { return unexpected(IrqWindow{}); }
  Step operator()(const SetTpr&) { return unexpected(SetTpr{}); }
  Step operator()(const IoapicEoi& e) { return unexpected(e); }
  Step operator()(const DebugStop& e) { return unexpected(e); }
  Step operator()(const UnknownExit& e) { return unexpected(e); }

 private:
  Step next() {
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
  void trace(std::string_view kind, std::uint64_t address, std::span<const std::uint8_t> data,
             std::size_t width, const Device* device) {
    event({.kind = kind,
           .address = address,
           .value = traced_value(data, width),
           .width = static_cast<std::uint32_t>(width),
           .count = static_cast<std::uint32_t>(data.size() / width),
           .device = name_of(device)});
  }
  void event(TraceEvent event) {
    event.time = board_.clock.now();
    event.vcpu = vcpu_;
    event.rip = rip_;
    board_.event(event);
  }

  Board& board_;
  unsigned vcpu_;
  Gva rip_;
};

}  // namespace

Step handle_exit(const Exit& exit, Board& board, unsigned vcpu, Gva rip) {
  return std::visit(Handler(board, vcpu, rip), exit);
}

}  // namespace vmm
