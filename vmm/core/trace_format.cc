#include "vmm/core/trace_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/core/apic_message.h"

namespace vmm {
namespace {

// Every string here is a name of ours, or KVM's words without quotes, so nothing needs escaping but
// the symbol, which SymbolTable has made printable; quotes and backslashes are taken out here.
std::string symbol_of(const SymbolTable* symbols, Gva rip) {
  std::string symbol;
  if (symbols != nullptr && rip != 0) symbol = symbols->name_of(rip).value_or("");
  std::erase_if(symbol, [](char c) { return c == '"' || c == '\\'; });
  return symbol;
}

template <typename... Args>
void add(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

// What only some kinds have, as members of a JSON object, each with a comma before it.
void add_fields(const TraceEvent& e, const SymbolTable* symbols, std::string& out) {
  if (e.other != kNoVcpu) add(out, R"(,"from_vcpu":{})", e.other);
  if (e.rip != 0) add(out, R"(,"rip":"0x{:x}")", e.rip);
  if (const std::string symbol = symbol_of(symbols, e.rip); !symbol.empty())
    add(out, R"(,"symbol":"{}")", symbol);
  const auto add_device = [&] {
    if (!e.device.empty()) add(out, R"(,"device":"{}")", e.device);
  };
  switch (e.kind.info().fields) {
    case TraceFields::None:
      return add_device();
    case TraceFields::Access:
      add(out, R"(,"address":"0x{:x}","width":{},"count":{},"value":"0x{:x}")", e.address, e.width,
          e.count, e.value);
      if (e.device.empty()) out += R"(,"device":null)";
      return add_device();
    case TraceFields::Value:
      add(out, R"(,"value":"0x{:x}")", e.value);
      return add_device();
    case TraceFields::Vector:
      add(out, R"(,"vector":"0x{:x}")", e.value);
      return add_device();
    case TraceFields::Message:
      add(out, R"(,"mode":"{}","vector":"0x{:x}")", message_mode(e.value), e.value & 0xff);
      if (const auto shorthand = message_shorthand(e.value); !shorthand.empty())
        add(out, R"(,"shorthand":"{}")", shorthand);
      else
        add(out, R"(,"destination":"0x{:x}","logical":{})", e.address, (e.value & 0x800) != 0);
      return add_device();
    case TraceFields::Reason:
      add(out, R"(,"reason":"{}","value":"0x{:x}")", e.words, e.value);
      return add_device();
    case TraceFields::Line:
      add(out, R"(,"gsi":{},"level":{})", e.address, e.value);
      return add_device();
  }
}

}  // namespace

// ---- One object a line

void JsonLinesFormat::event(const TraceEvent& e, std::string& out) {
  add(out, R"({{"ns":{},"vcpu":)", e.time.count());
  if (e.vcpu == kNoVcpu)
    out += "null";
  else
    add(out, "{}", e.vcpu);
  add(out, R"(,"kind":"{}")", e.kind.name());
  add_fields(e, symbols_, out);
  out += "}\n";
}

void JsonLinesFormat::dropped(std::uint64_t events, VmTime time, std::string& out) {
  add(out, "{{\"ns\":{},\"vcpu\":null,\"kind\":\"dropped\",\"count\":{}}}\n", time.count(), events);
}

void JsonLinesFormat::end(const Totals& totals, VmTime time, std::string& out) {
  add(out, "{{\"ns\":{},\"vcpu\":null,\"kind\":\"end\",\"count\":{},\"dropped\":{}}}\n",
      time.count(), totals.events, totals.dropped);
}

// ---- Chrome's form: "Trace Event Format", JSON array. Times are microseconds.

namespace {

constexpr unsigned kProcess = 1;
constexpr unsigned kFirstKvm = 500;      // track ids behind those of the vCPUs: what KVM tells
constexpr unsigned kFirstDevice = 1000;  // and of the devices
constexpr std::string_view kLines = "interrupt lines";

unsigned track_id(unsigned vcpu) { return vcpu + 1; }

std::string microseconds(VmTime time) {
  const auto ns = std::max<std::int64_t>(time.count(), 0);
  return fmt::format("{}.{:03}", ns / 1000, ns % 1000);
}

std::string_view category(TraceKind kind) {
  if (kind.in_group(trace_group::kExit)) return "exit";
  if (kind.in_group(trace_group::kTimer)) return "timer";
  if (kind.in_group(trace_group::kApic)) return "apic";
  if (kind.in_group(trace_group::kKvm)) return "kvm";
  return "other";
}

// Short, so that what is alike has one name: "out serial0", "inject 30h".
std::string title(const TraceEvent& e) {
  std::string text(e.kind.name());
  if (e.kind.info().fields == TraceFields::Access && !e.device.empty())
    text += fmt::format(" {}", e.device);
  if (e.kind.info().fields == TraceFields::Vector) text += fmt::format(" {:x}h", e.value);
  if (e.kind.info().fields == TraceFields::Message) text += " " + message_text(e.value, e.address);
  if (e.kind.info().fields == TraceFields::Reason) text += fmt::format(" {}", e.words);
  if (e.kind.info().fields == TraceFields::Line)
    text = fmt::format("line {} {}", e.address, e.value != 0 ? "high" : "low");
  return text;
}

void add_arguments(const TraceEvent& e, const SymbolTable* symbols, std::string& out) {
  add(out, R"(,"args":{{"kind":"{}")", e.kind.name());
  add_fields(e, symbols, out);
  out += "}}";
}

// What lasted from `from` until `until`, or a point where the end is not known.
void add_slice(std::string_view name, std::string_view group, unsigned track, VmTime from,
               std::optional<VmTime> until, const TraceEvent& e, const SymbolTable* symbols,
               std::string& out) {
  add(out,
      ",\n"
      R"({{"name":"{}","cat":"{}","pid":{},"tid":{},"ts":{})",
      name, group, kProcess, track, microseconds(from));
  if (until)
    add(out, R"(,"ph":"X","dur":{})", microseconds(*until - from));
  else
    out += R"(,"ph":"i","s":"t")";
  add_arguments(e, symbols, out);
}

void add_point(unsigned track, const TraceEvent& e, const SymbolTable* symbols, std::string& out) {
  add(out,
      ",\n"
      R"({{"name":"{}","cat":"{}","ph":"i","s":"t","pid":{},"tid":{},"ts":{})",
      title(e), category(e.kind), kProcess, track, microseconds(e.time));
  add_arguments(e, symbols, out);
}

}  // namespace

ChromeFormat::ChromeFormat(const SymbolTable* symbols, unsigned vcpus)
    : symbols_(symbols), tracks_(vcpus) {
  for (Track& track : tracks_) track.flows.resize(256);
}

void ChromeFormat::begin(std::string& out) {
  add(out, R"([{{"ph":"M","pid":{},"name":"process_name","args":{{"name":"vmm"}}}})", kProcess);
  for (unsigned i = 0; i < tracks_.size(); ++i)
    name_track(track_id(i), fmt::format("vCPU {}", i), out);
}

void ChromeFormat::name_track(unsigned id, std::string_view name, std::string& out) {
  add(out,
      ",\n"
      R"({{"ph":"M","pid":{0},"tid":{1},"name":"thread_name","args":{{"name":"{2}"}}}},)"
      "\n"
      R"({{"ph":"M","pid":{0},"tid":{1},"name":"thread_sort_index","args":{{"sort_index":{1}}}}})",
      kProcess, id, name);
}

unsigned ChromeFormat::device_track(std::string_view device, std::string& out) {
  const std::string_view name = device.empty() ? kLines : device;
  const auto known = std::ranges::find(devices_, name);
  const auto id = static_cast<unsigned>(kFirstDevice + (known - devices_.begin()));
  if (known == devices_.end()) {
    devices_.push_back(name);
    name_track(id, name, out);
  }
  return id;
}

// An exit is a slice from when it came until the guest runs again; without that moment, a point.
void ChromeFormat::close_exit(Track& track, unsigned vcpu, std::optional<VmTime> until,
                              std::string& out) {
  if (!track.served) return;
  const TraceEvent& e = *track.served;
  add_slice(title(e), "exit", track_id(vcpu), e.time, until, e, symbols_, out);
  track.served.reset();
}

void ChromeFormat::close_guest(Track& track, unsigned vcpu, VmTime until, std::string& out) {
  if (!track.entered) return;
  add(out,
      ",\n"
      R"({{"name":"guest","cat":"guest","ph":"X","pid":{},"tid":{},"ts":{},"dur":{}}})",
      kProcess, track_id(vcpu), microseconds(*track.entered), microseconds(until - *track.entered));
  track.entered.reset();
}

// What ran from KVM's entry to its exit, with the exit's reason; without an entry a point.
void ChromeFormat::close_kvm_exit(Track& track, unsigned vcpu, std::string& out) {
  if (!track.kvm_exit) return;
  const TraceEvent& e = *track.kvm_exit;
  add_slice(track.kvm_exit_is_l2 ? "L2" : "L1", "kvm", kFirstKvm + vcpu,
            track.kvm_entered.value_or(e.time),
            track.kvm_entered ? std::optional(e.time) : std::nullopt, e, symbols_, out);
  track.kvm_exit.reset();
  track.kvm_entered.reset();
  track.kvm_exit_is_l2 = false;
}

void ChromeFormat::kvm_event(Track& track, const TraceEvent& e, std::string& out) {
  if (!std::exchange(track.kvm_named, true))
    name_track(kFirstKvm + e.vcpu, fmt::format("vCPU {} by KVM", e.vcpu), out);
  if (e.kind == "kvm-l2-exit" && track.kvm_exit) {
    track.kvm_exit_is_l2 = true;
    return;
  }
  close_kvm_exit(track, e.vcpu, out);
  if (e.kind == "kvm-entry") {
    track.kvm_entered = e.time;
  } else if (e.kind == "kvm-exit") {
    track.kvm_exit = e;
  } else {
    add_point(kFirstKvm + e.vcpu, e, symbols_, out);
  }
}

// The beginning of an arrow, at the sender.
void ChromeFormat::leave_flow(const TraceEvent& e, std::string& out) {
  Track& target = tracks_[e.vcpu];
  std::uint64_t* flow = nullptr;
  if (e.kind == "accept" || e.kind == "nmi")
    flow = &target.flows[e.kind == "nmi" ? 2 : e.value & 0xff];
  else if (e.kind == "init" || e.kind == "sipi")
    flow = &target.start_flow;
  if (flow == nullptr) return;
  *flow = ++flows_;
  add(out,
      ",\n"
      R"({{"name":"ipi","cat":"ipi","ph":"s","id":{},"pid":{},"tid":{},"ts":{}}})",
      flows_, kProcess, track_id(e.other), microseconds(e.time));
}

void ChromeFormat::take_flow(std::uint64_t& flow, const TraceEvent& e, std::string& out) {
  if (flow == 0) return;
  add(out,
      ",\n"
      R"({{"name":"ipi","cat":"ipi","ph":"f","bp":"e","id":{},"pid":{},"tid":{},"ts":{}}})",
      flow, kProcess, track_id(e.vcpu), microseconds(e.time));
  flow = 0;
}

void ChromeFormat::event(const TraceEvent& e, std::string& out) {
  Track* track = e.vcpu < tracks_.size() ? &tracks_[e.vcpu] : nullptr;
  if (track != nullptr && e.kind.in_group(trace_group::kKvm)) return kvm_event(*track, e, out);
  if (track != nullptr && e.kind == "enter") {
    close_exit(*track, e.vcpu, e.time, out);
    take_flow(track->start_flow, e, out);
    track->entered = e.time;
    return;
  }
  if (track != nullptr && e.kind.in_group(trace_group::kExit)) {
    close_guest(*track, e.vcpu, e.time, out);
    close_exit(*track, e.vcpu, std::nullopt, out);
    track->served = e;
    return;
  }
  if (track != nullptr && e.other < tracks_.size()) leave_flow(e, out);
  if (track != nullptr && e.kind == "inject") take_flow(track->flows[e.value & 0xff], e, out);
  if (track != nullptr && e.kind == "inject-nmi") take_flow(track->flows[2], e, out);
  const unsigned id = track != nullptr ? track_id(e.vcpu) : device_track(e.device, out);
  add_point(id, e, symbols_, out);
}

void ChromeFormat::dropped(std::uint64_t events, VmTime time, std::string& out) {
  // What was open may have ended meanwhile.
  for (unsigned i = 0; i < tracks_.size(); ++i) {
    close_exit(tracks_[i], i, std::nullopt, out);
    tracks_[i].entered.reset();
    close_kvm_exit(tracks_[i], i, out);
    tracks_[i].kvm_entered.reset();
  }
  add(out,
      ",\n"
      R"({{"name":"{0} events dropped","cat":"trace","ph":"i","s":"g","pid":{1},"tid":{2},)"
      R"("ts":{3},"args":{{"count":{0}}}}})",
      events, kProcess, track_id(0), microseconds(time));
}

void ChromeFormat::end(const Totals& totals, VmTime time, std::string& out) {
  for (unsigned i = 0; i < tracks_.size(); ++i) {
    close_guest(tracks_[i], i, time, out);
    close_exit(tracks_[i], i, time, out);
    close_kvm_exit(tracks_[i], i, out);
  }
  add(out,
      ",\n"
      R"({{"name":"end","cat":"trace","ph":"i","s":"g","pid":{},"tid":{},"ts":{},)"
      R"("args":{{"count":{},"dropped":{}}}}})"
      "\n]\n",
      kProcess, track_id(0), microseconds(time), totals.events, totals.dropped);
}

std::unique_ptr<TraceFormat> trace_format_for(std::string_view path, const SymbolTable* symbols,
                                              unsigned vcpus) {
  if (lower(path).ends_with(".json")) return std::make_unique<ChromeFormat>(symbols, vcpus);
  return std::make_unique<JsonLinesFormat>(symbols);
}

}  // namespace vmm
