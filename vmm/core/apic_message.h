// An interrupt on its way to local APICs: what an IOAPIC, an MSI or another LAPIC's ICR sends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmm {

// SDM vol. 3A 11.6.1, 82093AA section 3.2.4: bits 10:8 of an ICR, an LVT entry, an RTE.
enum class DeliveryMode : std::uint8_t {
  Fixed = 0,
  LowestPriority = 1,
  Smi = 2,
  Nmi = 4,
  Init = 5,
  Startup = 6,  // ICR only; the vector is the page of the first instruction
  ExtInt = 7,   // the vector comes from the 8259A
};

struct ApicMessage {
  // Physical: an APIC id, kApicBroadcast for all. Logical: matched against each LDR, in the format
  // of its DFR or of x2APIC. A source with 8 bits of destination writes FFh as kApicBroadcast.
  std::uint32_t destination = 0;
  bool logical = false;
  DeliveryMode mode = DeliveryMode::Fixed;
  std::uint8_t vector = 0;
  bool level_triggered = false;
  bool asserted = true;  // false only for an INIT level de-assert, which modern LAPICs ignore

  bool operator==(const ApicMessage&) const = default;
};

constexpr std::uint32_t kApicBroadcast = 0xffffffff;

// An interrupt as a function on PCI sends it: a memory write of 4 bytes (SDM vol. 3A 11.11).
struct MsiMessage {
  std::uint64_t address = 0;
  std::uint32_t data = 0;

  bool operator==(const MsiMessage&) const = default;
};
// What local APICs see of it; nothing where the write goes elsewhere or its delivery mode is
// reserved.
std::optional<ApicMessage> decode_msi(const MsiMessage& message);

// ICR bits 19:18.
enum class ApicShorthand : std::uint8_t { None = 0, Self = 1, All = 2, AllButSelf = 3 };

// A LAPIC's interrupt command.
struct ApicCommand {
  ApicMessage message;
  ApicShorthand shorthand = ApicShorthand::None;

  bool operator==(const ApicCommand&) const = default;
};

// A message as the low half of an ICR holds it (SDM vol. 3A figure 11-12), for timelines: one
// number besides the destination.
constexpr std::uint32_t message_bits(const ApicMessage& message,
                                     ApicShorthand shorthand = ApicShorthand::None) {
  return message.vector | static_cast<std::uint32_t>(message.mode) << 8 |
         (message.logical ? 0x800u : 0u) | (message.asserted ? 0x4000u : 0u) |
         (message.level_triggered ? 0x8000u : 0u) | static_cast<std::uint32_t>(shorthand) << 18;
}
// Of those bits: "fixed", "lowest-priority", "smi", "nmi", "init", "sipi", "extint".
std::string_view message_mode(std::uint64_t bits);
// "self", "all", "all-but-self"; empty: none, the destination counts.
std::string_view message_shorthand(std::uint64_t bits);
// "fixed 30h to 2h", "sipi 9ah to all-but-self", "nmi to logical 1h".
std::string message_text(std::uint64_t bits, std::uint64_t destination);

}  // namespace vmm
