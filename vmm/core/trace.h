// What happened, event by event, for whoever listens: a file, the flight recorder, a test.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/check.h"
#include "vmm/base/units.h"
#include "vmm/core/symbols.h"

namespace vmm {

struct TraceEvent {
  VmTime time{0};
  unsigned vcpu = 0;
  Gva rip = 0;  // after the exit; for port and MMIO accesses that is the instruction itself or the
                // next one, as KVM leaves it
  std::string_view kind;      // "in", "out", "mmio-read", "mmio-write", "hlt", ...; a literal
  std::uint64_t address = 0;  // port, guest physical address or MSR
  std::uint64_t value = 0;    // what was read or written, low 8 bytes
  std::uint32_t width = 0;    // bytes of one access
  std::uint32_t count = 1;    // repetitions of a string instruction
  std::string_view device{};  // who answered; empty: nobody

  bool operator==(const TraceEvent&) const = default;
  // "out 3f8h <- 41h serial0", for cards and lists.
  std::string text() const;
};

class Tracer {
 public:
  virtual ~Tracer() = default;
  // May be called from any vCPU thread, one at a time (under the board's lock); must not block.
  virtual void event(const TraceEvent& event) = 0;
};

// The last events of the machine, oldest first; always on.
class FlightRecorder final : public Tracer {
 public:
  // `capacity` is at least 1.
  explicit FlightRecorder(std::size_t capacity = 256) : events_(capacity) {
    VMM_CHECK(capacity > 0, "a flight recorder needs room");
  }
  void event(const TraceEvent& event) override { events_[next_++ % events_.size()] = event; }
  // At most `count` of the newest events, oldest first; of one vCPU if `vcpu` >= 0.
  std::vector<TraceEvent> last(std::size_t count, int vcpu = -1) const;
  std::uint64_t total() const { return next_; }

 private:
  std::vector<TraceEvent> events_;
  std::uint64_t next_ = 0;
};

// One JSON object a line for each event, through `write` (which takes the text or drops it).
class JsonLinesTracer final : public Tracer {
 public:
  JsonLinesTracer(std::function<void(std::string_view)> write, const SymbolTable* symbols)
      : write_(std::move(write)), symbols_(symbols) {}
  void event(const TraceEvent& event) override;

 private:
  std::function<void(std::string_view)> write_;
  const SymbolTable* symbols_;
};

}  // namespace vmm
