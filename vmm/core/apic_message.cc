#include "vmm/core/apic_message.h"

#include <fmt/format.h>

#include <array>

namespace vmm {

// Bits 31:20 of the address say that it is for local APICs, bits 19:12 to which, bit 2 how those
// are named. Bit 3 only asks for what the delivery mode says as well.
std::optional<ApicMessage> decode_msi(const MsiMessage& message) {
  if (message.address >> 20 != 0xfee) return std::nullopt;
  const unsigned mode = message.data >> 8 & 7;
  if (mode == 3 || mode == 6) return std::nullopt;
  const auto destination = static_cast<std::uint32_t>(message.address >> 12 & 0xff);
  ApicMessage decoded;
  decoded.logical = (message.address & 4) != 0;
  decoded.destination = !decoded.logical && destination == 0xff ? kApicBroadcast : destination;
  decoded.mode = static_cast<DeliveryMode>(mode);
  decoded.vector = static_cast<std::uint8_t>(message.data);
  decoded.level_triggered = (message.data & 0x8000) != 0;
  decoded.asserted = !decoded.level_triggered || (message.data & 0x4000) != 0;
  return decoded;
}

std::string_view message_mode(std::uint64_t bits) {
  constexpr std::array<std::string_view, 8> kNames = {
      "fixed", "lowest-priority", "smi", "reserved", "nmi", "init", "sipi", "extint"};
  return kNames[bits >> 8 & 7];
}

std::string_view message_shorthand(std::uint64_t bits) {
  constexpr std::array<std::string_view, 4> kNames = {"", "self", "all", "all-but-self"};
  return kNames[bits >> 18 & 3];
}

std::string message_text(std::uint64_t bits, std::uint64_t destination) {
  const auto mode = static_cast<DeliveryMode>(bits >> 8 & 7);
  std::string text(message_mode(bits));
  if (mode == DeliveryMode::Fixed || mode == DeliveryMode::LowestPriority ||
      mode == DeliveryMode::Startup)
    text += fmt::format(" {:x}h", bits & 0xff);
  if (const auto shorthand = message_shorthand(bits); !shorthand.empty())
    return text + fmt::format(" to {}", shorthand);
  if (destination == kApicBroadcast) return text + " to all";
  return text + fmt::format(" to {}{:x}h", (bits & 0x800) != 0 ? "logical " : "", destination);
}

}  // namespace vmm
