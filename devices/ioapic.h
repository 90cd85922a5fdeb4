// Chip:       Intel 82093AA I/O APIC with 24 pins, or the later version 20h with its EOI register
// Source:     82093AA data sheet (290566), sections 3.1 and 3.2; the EOI register as in the Intel
//             ICH9 data sheet (316972), section 13.5
// Implements: index, window, ID, version, arbitration ID, redirection table, edge and level pins,
//             polarity, remote IRR, EOI by vector and by register
// Leaves out: the APIC bus: delivery status reads 0, a message that no local APIC accepts is not
//             retried (a level is sent again at the next change of its entry, pin or EOI); the pin
//             assertion register
// Differs:    an edge while masked is dropped, as 3.2.4 has it (KVM too: its IRR bit makes nothing
//             happen at the unmasking). Level is heeded for Fixed and LowestPriority; any other
//             mode sends at an edge. Polarity is heeded (KVM and QEMU ignore it). Reserved delivery
//             modes and Startup send nothing. Reserved bits read 0, registers that do not exist all
//             ones. Remote IRR is cleared when an entry becomes edge-triggered, which Linux and Xen
//             use in the place of an EOI register.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "vmm/core/apic_message.h"
#include "vmm/core/device.h"

namespace vmm {

// Offset 0 is the index register (1, 2 or 4 bytes), 10h the window and, from version 20h, 40h the
// EOI register (4 bytes each). The board maps it at FEC00000h.
class Ioapic final : public Device {
 public:
  static constexpr unsigned kPins = 24;
  static constexpr std::uint64_t kMaskedEntry = 0x10000;

  struct State {
    std::uint8_t index = 0;
    std::uint8_t id = 0;  // 4 bits
    std::uint32_t pins = 0;
    std::array<std::uint64_t, kPins> entries = all_masked();

    bool operator==(const State&) const = default;

   private:
    static constexpr std::array<std::uint64_t, kPins> all_masked() {
      std::array<std::uint64_t, kPins> entries{};
      for (std::uint64_t& entry : entries) entry = kMaskedEntry;
      return entries;
    }
  };

  // Where a pin leads, for those who must know before it rises.
  struct Route {
    ApicMessage message;
    bool masked = true;  // also where the entry could send nothing

    bool operator==(const Route&) const = default;
  };

  // `version` is 11h or 20h (a check). `send` is called from set_pin(), eoi() and register writes;
  // it must not call back. It tells whether a local APIC accepted the message.
  Ioapic(std::string name, std::uint8_t version, std::function<bool(const ApicMessage&)> send);

  // The level of pin `pin`, below kPins (a check).
  void set_pin(unsigned pin, bool level);
  // A local APIC ended `vector`: what waits for that may be sent again.
  void eoi(std::uint8_t vector);
  Route route(unsigned pin) const;
  // Grows whenever a route may have changed; never goes back, not by reset or loading either.
  std::uint64_t generation() const { return generation_; }

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  bool has_eoi_register() const;
  bool is_active(unsigned pin) const;
  void send_level(unsigned pin);
  std::uint32_t read_window() const;
  void write_window(std::uint32_t value);
  void write_entry(unsigned pin, bool high, std::uint32_t value);

  std::string name_;
  std::uint8_t version_;
  std::function<bool(const ApicMessage&)> send_;
  std::uint64_t generation_ = 0;
  State state_;
};

}  // namespace vmm
