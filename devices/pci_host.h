// Chip:       PCI bus 0: configuration mechanism 1 (CF8h, CFCh), an 82441FX host bridge (device 0),
//             PIIX ISA bridge and power management (device 1, functions 0 and 3)
// Source:     PCI Local Bus Specification 3.0, section 3.2.2.3.2 (mechanism 1) and chapter 6
// (headers);
//             Intel 290549 (82441FX), 290550 (82371SB, PIIX3), 290562 (82371AB, PIIX4)
// Implements: headers of the three functions; PAM (59h-5Fh) and PIRQ routing (60h-63h) as storage;
//             PMBASE, which says where the board has the ACPI registers
// Leaves out: what PAM, SMRAM and the other registers of the bridges do: all memory below 1 MiB is
// RAM;
//             other buses; forwarding what is not configuration
// Differs:    without firmware PMBASE reads 601h from power-on and cannot be moved, so that the
// ACPI
//             tables stay true; with one it is to be set, as on the chip;
//             PIIX4's function 3 stands beside PIIX3's function 0, as on QEMU's board, and says
//             that SMM is set up (58h bit 25), for which firmware would wait; other registers are
//             read-only
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "devices/pci_function.h"
#include "vmm/core/device.h"

namespace vmm {

// Offset 0: CONFIG_ADDRESS, 4 bytes; 4-7: CONFIG_DATA, 1, 2 or 4 bytes within it. Map 8 ports with
// BusWidth::Any.
class PciHost final : public Device {
 public:
  using ConfigSpace = std::array<std::uint8_t, 256>;
  static const ConfigSpace kHostBridge;  // as they are after power-on
  static const ConfigSpace kIsaBridge;
  static const ConfigSpace kPowerManagement;

  struct State {
    std::uint32_t config_address = 0;
    ConfigSpace host_bridge = kHostBridge;
    ConfigSpace isa_bridge = kIsaBridge;
    ConfigSpace power_management = kPowerManagement;

    bool operator==(const State&) const = default;
  };

  // Who set the board up: nobody yet, firmware will; or it comes as firmware leaves it.
  enum class SetUp { ByFirmware, Done };

  // `cf9` answers accesses of one byte at CF9h, in the middle of CONFIG_ADDRESS, which is reached
  // by dwords only. It may be null, and outlives this.
  PciHost(std::string name, Device* cf9, SetUp set_up = SetUp::Done);

  // Puts a further function on bus 0 before the machine starts; it outlives this. `device` 0-31,
  // `function` 0-7; a guest looks at functions other than 0 only where function 0 is there.
  // Function 0 of a device with several has header type bit 7 set.
  void attach(unsigned device, unsigned function, PciFunction& pci_function);

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  // Leads PIRQ A to D to these ISA interrupts (3 to 15), as firmware does.
  void route_pirqs(const std::array<std::uint8_t, 4>& irqs);
  // The guest wrote to the ISA bridge: pirq_route() may say something else. May be empty.
  std::function<void()> on_route_change;
  // The guest wrote to the power management function: pm_base() may say something else. May be
  // empty.
  std::function<void()> on_pm_change;
  // Where the board has the ACPI registers (PMBASE), a multiple of 40h; nothing while PMREGMISC
  // does not enable them or nobody has said.
  std::optional<std::uint16_t> pm_base() const;
  // The ISA interrupt that PIRQ A to D (0 to 3) is routed to; nothing while it is disabled.
  std::optional<unsigned> pirq_route(unsigned pirq) const;

  const State& state() const { return state_; }

 private:
  // One of the three that belong to the board: bytes, and which bits of them can be written.
  class BuiltIn final : public PciFunction {
   public:
    BuiltIn(ConfigSpace& bytes, const ConfigSpace& writable) : bytes_(bytes), writable_(writable) {}
    void read_config(std::uint8_t offset, std::span<std::uint8_t> data) override;
    void write_config(std::uint8_t offset, std::span<const std::uint8_t> data) override;

   private:
    ConfigSpace& bytes_;
    const ConfigSpace& writable_;
  };
  PciFunction* selected() const;
  const ConfigSpace& power_management_at_start() const;
  const ConfigSpace& power_management_writable() const;

  std::string name_;
  Device* cf9_;
  SetUp set_up_;
  State state_;
  BuiltIn host_bridge_;
  BuiltIn isa_bridge_;
  BuiltIn power_management_;
  std::map<std::uint8_t, PciFunction*>
      functions_;  // by device and function, as CONFIG_ADDRESS has them
};

}  // namespace vmm
