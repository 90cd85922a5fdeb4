#include "vmm/core/apic_message.h"

#include <fmt/format.h>

#include <array>

namespace vmm {

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
