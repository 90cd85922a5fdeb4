// An interrupt on its way to local APICs: what an IOAPIC, an MSI or another LAPIC's ICR sends.
#pragma once

#include <cstdint>

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

// ICR bits 19:18.
enum class ApicShorthand : std::uint8_t { None = 0, Self = 1, All = 2, AllButSelf = 3 };

// A LAPIC's interrupt command.
struct ApicCommand {
  ApicMessage message;
  ApicShorthand shorthand = ApicShorthand::None;

  bool operator==(const ApicCommand&) const = default;
};

}  // namespace vmm
