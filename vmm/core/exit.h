// Why KVM_RUN came back, as a value. The decoder (vmm/kvm/decode.h) makes it from kvm_run; spans
// point into the shared page and live until the next run.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "vmm/base/units.h"

namespace vmm {

struct PioIn {
  std::uint16_t port;
  std::uint8_t width;            // 1, 2 or 4 bytes
  std::span<std::uint8_t> data;  // width * count bytes (string instructions)
};
struct PioOut {
  std::uint16_t port;
  std::uint8_t width;
  std::span<const std::uint8_t> data;
};
struct MmioRead {
  Gpa gpa;
  std::span<std::uint8_t> data;  // 1 to 8 bytes
};
struct MmioWrite {
  Gpa gpa;
  std::span<const std::uint8_t> data;
};
struct MsrRead {
  std::uint32_t index;
  std::uint32_t reason;  // KVM_MSR_EXIT_REASON_*
  std::uint64_t* value;
  std::uint8_t* error;  // set to 1: #GP
};
struct MsrWrite {
  std::uint32_t index;
  std::uint32_t reason;
  std::uint64_t value;
  std::uint8_t* error;
};
struct Halt {};       // HLT, without KVM's LAPIC
struct IrqWindow {};  // the guest can take an interrupt now
struct SetTpr {};     // CR8 was lowered, without KVM's LAPIC
struct IoapicEoi {
  std::uint8_t vector;
};
struct DebugStop {
  std::uint32_t exception;  // 1 #DB, 3 #BP
  Gva pc;
  std::uint64_t dr6;
  std::uint64_t dr7;
};
struct SystemEvent {
  std::uint32_t type;  // KVM_SYSTEM_EVENT_*
};
struct Shutdown {};  // triple fault
struct FailEntry {
  std::uint64_t reason;  // hardware_entry_failure_reason
  std::uint32_t cpu;     // host CPU
};
// KVM_EXIT_INTERNAL_ERROR; the meaning of the data words depends on the suberror.
struct InternalError {
  std::uint32_t suberror = 0;
  std::uint32_t ndata = 0;  // how many of `data` are valid
  std::array<std::uint64_t, 16> data{};

  bool operator==(const InternalError&) const = default;
};
struct Interrupted {};  // a signal or immediate_exit
struct UnknownExit {
  std::uint32_t reason;  // KVM_EXIT_*
};

using Exit = std::variant<PioIn, PioOut, MmioRead, MmioWrite, MsrRead, MsrWrite, Halt, IrqWindow,
                          SetTpr, IoapicEoi, DebugStop, SystemEvent, Shutdown, FailEntry,
                          InternalError, Interrupted, UnknownExit>;

// A set of lambdas as one visitor; an alternative without one is a compile error.
template <typename... Ts>
struct Overload : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overload(Ts...) -> Overload<Ts...>;

// One line: "out 3f8h width 1 41", "mmio write b8000h 0741".
std::string to_string(const Exit& exit);
// "EMULATION", "SIMUL_EX", "DELIVERY_EV", "UNEXPECTED_EXIT_REASON", or the number.
std::string suberror_name(std::uint32_t suberror);

}  // namespace vmm
