#include "vmm/core/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "vmm/core/apic_message.h"

namespace vmm {
namespace {

std::string access_text(const TraceEvent& e) {
  const bool writes = e.kind == "out" || e.kind == "mmio-write" || e.kind == "wrmsr";
  std::string text = fmt::format(" {:x}h {} {:x}h", e.address, writes ? "<-" : "->", e.value);
  if (e.count > 1) text += fmt::format(" x{}", e.count);
  text += e.device.empty() ? " (nothing there)" : fmt::format(" {}", e.device);
  return text;
}

}  // namespace

std::string TraceEvent::text() const {
  std::string line(kind.name());
  switch (kind.info().fields) {
    case TraceFields::None:
      break;
    case TraceFields::Access:
      // Without a width there was no access: an event that a test made by hand.
      return width == 0 ? line : line + access_text(*this);
    case TraceFields::Value:
    case TraceFields::Vector:
      line += fmt::format(" {:x}h", value);
      break;
    case TraceFields::Message:
      line += " " + message_text(value, address);
      break;
    case TraceFields::Reason:
      line += fmt::format(" {} ({:x}h)", words, value);
      break;
    case TraceFields::Line:
      line += fmt::format(" {} {}", address, value != 0 ? "high" : "low");
      break;
  }
  if (other != kNoVcpu) line += fmt::format(" from vCPU {}", other);
  if (!device.empty()) line += fmt::format(" {}", device);
  return line;
}

FlightRecorder::FlightRecorder(std::size_t capacity)
    : events_(std::bit_ceil(capacity)), mask_(events_.size() - 1) {
  VMM_CHECK(capacity > 0, "a flight recorder needs room");
}

template <typename Wanted>
std::vector<TraceEvent> FlightRecorder::newest(std::size_t count, const Wanted& wanted) const {
  std::vector<TraceEvent> result;
  const std::uint64_t held = std::min<std::uint64_t>(next_, events_.size());
  for (std::uint64_t i = 0; i < held && result.size() < count; ++i) {
    const TraceEvent& event = events_[(next_ - 1 - i) & mask_];
    if (wanted(event)) result.push_back(event);
  }
  std::reverse(result.begin(), result.end());
  return result;
}

std::vector<TraceEvent> FlightRecorder::last(std::size_t count, int vcpu) const {
  return newest(count, [vcpu](const TraceEvent& event) {
    return vcpu < 0 || event.vcpu == static_cast<unsigned>(vcpu);
  });
}

std::vector<TraceEvent> FlightRecorder::last_exits(std::size_t count) const {
  return newest(count, [](const TraceEvent& event) {
    return event.kind.in_group(trace_group::kExit) && event.kind != "interrupted" &&
           event.kind != "irq-window";
  });
}

void FlightRecorder::remember(const TraceEvent& event) {
  if (event.vcpu >= starts_.size()) return;
  ProcessorStart& start = starts_[event.vcpu];
  (event.kind == "sipi" ? start.sipi : start.init) = event;
}

}  // namespace vmm
