// The kinds of events that a timeline can hold: their names, what they belong to, what their fields
// mean, and under which interrupt chips they can be seen.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "vmm/core/irqchip.h"

namespace vmm {

// Names for several kinds at once, as bits.
namespace trace_group {
constexpr unsigned kExit = 1;    // KVM_RUN came back
constexpr unsigned kAccess = 2;  // a port, MMIO or MSR
constexpr unsigned kApic = 4;    // at or between local APICs
constexpr unsigned kTimer = 8;   // a timer expired
constexpr unsigned kStart = 16;  // what starts and stops processors
constexpr unsigned kKvm = 32;    // what KVM itself tells (--kvm-trace)
constexpr unsigned kAccesses = kExit | kAccess;
}  // namespace trace_group

// What `address` and `value` of an event are.
enum class TraceFields : std::uint8_t {
  None,
  Access,   // address, value, width, count, device
  Value,    // value: a number of the kind's own
  Vector,   // value: a vector
  Message,  // value: bits of an ICR (message_bits()); address: the destination
  Line,     // address: the pin; value: its level
  Reason,   // value: a number of the kind's own; words: what it says
};

struct TraceKindInfo {
  std::string_view name;
  unsigned groups;
  TraceFields fields;
  unsigned chips;  // a bit for each IrqChipKind that shows it
};

namespace trace_detail {
constexpr unsigned seen(IrqChipKind kind) { return 1u << static_cast<unsigned>(kind); }
constexpr unsigned kUser = seen(IrqChipKind::User);
constexpr unsigned kOwnRest = kUser | seen(IrqChipKind::Split);
constexpr unsigned kAll = kOwnRest | seen(IrqChipKind::Kernel);
}  // namespace trace_detail

// docs/traces.md explains each; a test compares.
inline constexpr auto kTraceKinds = [] {
  using namespace trace_detail;  // NOLINT(google-build-using-namespace)
  using namespace trace_group;   // NOLINT(google-build-using-namespace)
  using F = TraceFields;
  return std::to_array<TraceKindInfo>({
      {"in", kAccesses, F::Access, kAll},
      {"out", kAccesses, F::Access, kAll},
      {"mmio-read", kAccesses, F::Access, kAll},
      {"mmio-write", kAccesses, F::Access, kAll},
      {"rdmsr", kAccesses, F::Access, kAll},
      {"wrmsr", kAccesses, F::Access, kAll},
      {"hlt", kExit, F::None, kUser},
      {"irq-window", kExit, F::None, kOwnRest},
      {"set-tpr", kExit, F::Value, kUser},
      {"ioapic-eoi", kExit, F::Vector, seen(IrqChipKind::Split)},
      {"interrupted", kExit, F::None, kAll},
      {"debug", kExit, F::Value, kAll},
      {"system-event", kExit, F::Value, kAll},
      {"shutdown", kExit, F::None, kAll},
      {"fail-entry", kExit, F::Value, kAll},
      {"internal-error", kExit, F::Value, kAll},
      {"unknown-exit", kExit, F::Value, kAll},
      {"enter", 0, F::None, kAll},
      {"reset", kStart, F::None, kAll},
      {"wake", 0, F::None, kUser},
      {"ipi", kApic, F::Message, kUser},
      {"message", kApic, F::Message, kOwnRest},
      {"accept", kApic, F::Vector, kUser},
      {"ignored", kApic, F::Message, kUser},
      {"nmi", kApic, F::None, kUser},
      {"extint", kApic, F::None, kUser},
      {"init", kApic | kStart, F::None, kUser},
      {"sipi", kApic | kStart, F::Vector, kUser},
      {"inject", kApic, F::Vector, kOwnRest},
      {"inject-nmi", kApic, F::None, kUser},
      {"eoi", kApic, F::Vector, kUser},
      {"lapic-error", kApic, F::Value, kUser},
      {"apic-base", kApic, F::Value, kUser},
      {"lapic-timer", kApic | kTimer, F::Vector, kUser},
      {"pit-timer", kTimer, F::None, kOwnRest},
      {"rtc-timer", kTimer, F::Value, kAll},
      {"line", 0, F::Line, kAll},
      {"kvm-entry", kKvm, F::None, kAll},
      {"kvm-exit", kKvm, F::Reason, kAll},
      {"kvm-l2-exit", kKvm, F::Reason, kAll},
      {"kvm-exit-to-l1", kKvm, F::Reason, kAll},
      {"kvm-l2-entry", kKvm, F::Value, kAll},
      {"kvm-l2-entry-failed", kKvm, F::Reason, kAll},
  });
}();

// One of them, as small as a number and written as a literal: a name that is not in the table does
// not compile.
class TraceKind {
 public:
  constexpr TraceKind() = default;
  // NOLINTNEXTLINE(google-explicit-constructor)
  consteval TraceKind(const char* name) : index_(find(name).value()) {}
  static constexpr std::optional<TraceKind> from_name(std::string_view name) {
    const auto index = find(name);
    if (!index) return std::nullopt;
    TraceKind kind;
    kind.index_ = *index;
    return kind;
  }

  constexpr const TraceKindInfo& info() const { return kTraceKinds[index_]; }
  constexpr std::string_view name() const { return info().name; }
  constexpr std::size_t index() const { return index_; }
  constexpr bool in_group(unsigned groups) const { return (info().groups & groups) != 0; }
  constexpr bool visible_under(IrqChipKind chip) const {
    return (info().chips & trace_detail::seen(chip)) != 0;
  }
  bool operator==(const TraceKind&) const = default;

 private:
  static constexpr std::optional<std::uint8_t> find(std::string_view name) {
    for (std::size_t i = 0; i < kTraceKinds.size(); ++i)
      if (kTraceKinds[i].name == name) return static_cast<std::uint8_t>(i);
    return std::nullopt;
  }
  std::uint8_t index_ = 0;
};

}  // namespace vmm
