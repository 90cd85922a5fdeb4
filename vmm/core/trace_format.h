// A timeline as text: one JSON object a line, or Chrome's trace events, which Perfetto reads too.
// Both stay readable when the file is cut off at the end of any event.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/symbols.h"
#include "vmm/core/trace.h"

namespace vmm {

class TraceFormat {
 public:
  virtual ~TraceFormat() = default;
  // Each adds its text to `out`.
  virtual void begin(std::string& /*out*/) {}
  virtual void event(const TraceEvent& event, std::string& out) = 0;
  // At this place, and about this time, `events` are missing.
  virtual void dropped(std::uint64_t events, VmTime time, std::string& out) = 0;
  struct Totals {
    std::uint64_t events = 0;  // written
    std::uint64_t dropped = 0;
  };
  virtual void end(const Totals& totals, VmTime time, std::string& out) = 0;
};

// `symbols` may be null; else it must outlive the format.
class JsonLinesFormat final : public TraceFormat {
 public:
  explicit JsonLinesFormat(const SymbolTable* symbols) : symbols_(symbols) {}
  void event(const TraceEvent& event, std::string& out) override;
  void dropped(std::uint64_t events, VmTime time, std::string& out) override;
  void end(const Totals& totals, VmTime time, std::string& out) override;

 private:
  const SymbolTable* symbols_;
};

// The JSON array form: one process, a track for each vCPU with what the guest ran and what each
// exit took to serve, one for each device that acts by itself; arrows from an IPI to where it was
// taken.
class ChromeFormat final : public TraceFormat {
 public:
  ChromeFormat(const SymbolTable* symbols, unsigned vcpus);
  void begin(std::string& out) override;
  void event(const TraceEvent& event, std::string& out) override;
  void dropped(std::uint64_t events, VmTime time, std::string& out) override;
  void end(const Totals& totals, VmTime time, std::string& out) override;

 private:
  struct Track {
    std::optional<VmTime> entered;     // the guest runs since
    std::optional<TraceEvent> served;  // an exit that is being served
    std::uint64_t start_flow = 0;      // an INIT or SIPI that will show at the next entry
    std::vector<std::uint64_t> flows;  // by vector: an IPI that was not taken yet
    // By KVM's events, on a track of their own.
    bool kvm_named = false;
    std::optional<VmTime> kvm_entered;
    std::optional<TraceEvent> kvm_exit;  // whose level the next event tells
    bool kvm_exit_is_l2 = false;
  };
  unsigned device_track(std::string_view device, std::string& out);
  void close_exit(Track& track, unsigned vcpu, std::optional<VmTime> until, std::string& out);
  void close_guest(Track& track, unsigned vcpu, VmTime until, std::string& out);
  void kvm_event(Track& track, const TraceEvent& event, std::string& out);
  void close_kvm_exit(Track& track, unsigned vcpu, std::string& out);
  void leave_flow(const TraceEvent& event, std::string& out);
  void take_flow(std::uint64_t& flow, const TraceEvent& event, std::string& out);
  void name_track(unsigned id, std::string_view name, std::string& out);

  const SymbolTable* symbols_;
  std::vector<Track> tracks_;  // by vCPU
  std::vector<std::string_view> devices_;
  std::uint64_t flows_ = 0;
};

// ChromeFormat for a path that ends in ".json", else lines.
std::unique_ptr<TraceFormat> trace_format_for(std::string_view path, const SymbolTable* symbols,
                                              unsigned vcpus);

}  // namespace vmm
