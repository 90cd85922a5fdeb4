#include "vmm/core/trace.h"

#include <fmt/format.h>

#include <algorithm>

namespace vmm {

std::string TraceEvent::text() const {
  const bool writes = kind == "out" || kind == "mmio-write" || kind == "wrmsr";
  std::string line(kind);
  if (width != 0) line += fmt::format(" {:x}h {} {:x}h", address, writes ? "<-" : "->", value);
  if (count > 1) line += fmt::format(" x{}", count);
  if (!device.empty())
    line += fmt::format(" {}", device);
  else if (width != 0)
    line += " (nothing there)";
  return line;
}

std::vector<TraceEvent> FlightRecorder::last(std::size_t count, int vcpu) const {
  std::vector<TraceEvent> result;
  const std::uint64_t held = std::min<std::uint64_t>(next_, events_.size());
  for (std::uint64_t i = 0; i < held && result.size() < count; ++i) {
    const TraceEvent& event = events_[(next_ - 1 - i) % events_.size()];
    if (vcpu < 0 || event.vcpu == static_cast<unsigned>(vcpu)) result.push_back(event);
  }
  std::reverse(result.begin(), result.end());
  return result;
}

void JsonLinesTracer::event(const TraceEvent& event) {
  // Every string here is a literal or a device's name of ours, so nothing needs escaping but the
  // symbol, which SymbolTable has made printable; quotes and backslashes are taken out here.
  std::string symbol;
  if (symbols_ != nullptr) symbol = symbols_->name_of(event.rip).value_or("");
  std::erase_if(symbol, [](char c) { return c == '"' || c == '\\'; });
  std::string line = fmt::format(R"({{"ns":{},"vcpu":{},"rip":"0x{:x}","kind":"{}")",
                                 event.time.count(), event.vcpu, event.rip, event.kind);
  if (!symbol.empty()) line += fmt::format(R"(,"symbol":"{}")", symbol);
  if (event.width != 0)
    line += fmt::format(R"(,"address":"0x{:x}","width":{},"count":{},"value":"0x{:x}","device":{})",
                        event.address, event.width, event.count, event.value,
                        event.device.empty() ? "null" : fmt::format("\"{}\"", event.device));
  write_(line + "}\n");
}

}  // namespace vmm
