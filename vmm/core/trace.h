// What happened, event by event, for whoever listens: a file, the flight recorder, a test.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/check.h"
#include "vmm/base/units.h"
#include "vmm/core/trace_kind.h"

namespace vmm {

// An event of no processor in particular, or without another one.
constexpr unsigned kNoVcpu = ~0u;

struct TraceEvent {
  VmTime time{0};  // of an exit: when it came, before it was served
  unsigned vcpu = 0;
  unsigned other = kNoVcpu;  // of what one processor sends another: the sender; `vcpu` receives
  Gva rip = 0;     // of the processor that caused it, where that is known; after the exit:
                   // for port and MMIO accesses that is the instruction itself or the
                   // next one, as KVM leaves it
  TraceKind kind;  // "in", "out", ...: trace_kind.h
  std::uint64_t address = 0;  // port, guest physical address, MSR; see TraceFields
  std::uint64_t value = 0;    // what was read or written, low 8 bytes; see TraceFields
  std::uint32_t width = 0;    // bytes of one access
  std::uint32_t count = 1;    // repetitions of a string instruction
  std::string_view device{};  // who answered, or acted by itself; empty: nobody. Lives as long as
                              // the board
  std::string_view words{};   // of TraceFields::Reason; lives as long as the machine

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

// What last started a processor, and what last stopped it: kept however long ago that was.
struct ProcessorStart {
  std::optional<TraceEvent> init;
  std::optional<TraceEvent> sipi;
};

// The last events of the machine, oldest first; always on.
class FlightRecorder final : public Tracer {
 public:
  static constexpr unsigned kMaxProcessors = 64;

  // `capacity` is at least 1; rounded up to a power of two.
  explicit FlightRecorder(std::size_t capacity = 256);
  void event(const TraceEvent& event) override {
    TraceEvent& kept = events_[next_++ & mask_];
    kept = event;
    if (kept.kind == "sipi" || kept.kind == "init") remember(kept);
  }
  // At most `count` of the newest events, oldest first; of one vCPU if `vcpu` >= 0.
  std::vector<TraceEvent> last(std::size_t count, int vcpu = -1) const;
  // The newest exits that tell something: not those that only asked a vCPU to come out.
  std::vector<TraceEvent> last_exits(std::size_t count) const;
  std::uint64_t total() const { return next_; }
  // By the number of the processor, below kMaxProcessors.
  const ProcessorStart& start(unsigned vcpu) const { return starts_.at(vcpu); }

 private:
  template <typename Wanted>
  std::vector<TraceEvent> newest(std::size_t count, const Wanted& wanted) const;
  void remember(const TraceEvent& event);

  std::vector<TraceEvent> events_;
  std::uint64_t mask_;
  std::uint64_t next_ = 0;
  std::array<ProcessorStart, kMaxProcessors> starts_;
};

}  // namespace vmm
