// The MSI-X table of a PCI function with two vectors (PCI Local Bus Specification 3.0, section
// 6.8.2): messages that are sent, or kept while they are masked.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "vmm/base/archive.h"
#include "vmm/core/apic_message.h"
#include "vmm/core/device.h"

namespace vmm {

struct MsixState {
  static constexpr unsigned kVectors = 2;
  struct Entry {
    std::uint64_t address = 0;
    std::uint32_t data = 0;
    bool masked = true;

    bool operator==(const Entry&) const = default;
  };
  bool enabled = false;          // Message Control bit 15
  bool function_masked = false;  // bit 14
  std::uint8_t pending = 0;      // a bit a vector
  std::array<Entry, kVectors> entries{};

  bool operator==(const MsixState&) const = default;
  void visit(Archive& archive);
};

using MsixSend = std::function<void(const MsiMessage&)>;

// The table at offset 0 and the pending bits at kPendingOffset of a window of kWindowSize bytes;
// aligned accesses of 4 or 8 bytes.
constexpr std::uint64_t kMsixPendingOffset = 0x800;
constexpr std::uint64_t kMsixWindowSize = 0x1000;
Access msix_read(const MsixState& state, std::uint64_t offset, std::span<std::uint8_t> data);
Access msix_write(MsixState& state, std::uint64_t offset, std::span<const std::uint8_t> data,
                  const MsixSend& send);
// Message Control, of which bits 15 and 14 can be written.
std::uint16_t msix_control(const MsixState& state);
void set_msix_control(MsixState& state, std::uint16_t value, const MsixSend& send);
// Sends `vector`, or notes it as pending while it is masked; nothing while MSI-X is off or for a
// vector that does not exist.
void msix_signal(MsixState& state, unsigned vector, const MsixSend& send);

}  // namespace vmm
