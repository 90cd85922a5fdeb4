// PCI configuration mechanism 1, bus 0.
#pragma once

#include "guest-tests/guests/guest.h"

namespace guest {

struct PciDevice {
  uint8_t device = 0;

  void select(uint8_t offset) const {
    out32(0xcf8, 0x80000000u | static_cast<uint32_t>(device) << 11 | (offset & 0xfcu));
  }
  uint32_t read32(uint8_t offset) const {
    select(offset);
    return in32(0xcfc);
  }
  uint16_t read16(uint8_t offset) const {
    select(offset);
    return in16(static_cast<uint16_t>(0xcfc + (offset & 2)));
  }
  uint8_t read8(uint8_t offset) const {
    select(offset);
    return in8(static_cast<uint16_t>(0xcfc + (offset & 3)));
  }
  void write32(uint8_t offset, uint32_t value) const {
    select(offset);
    out32(0xcfc, value);
  }
  void write16(uint8_t offset, uint16_t value) const {
    select(offset);
    out16(static_cast<uint16_t>(0xcfc + (offset & 2)), value);
  }
};

namespace spec {
constexpr uint8_t PCI_COMMAND = 0x04, PCI_STATUS = 0x06, PCI_BAR0 = 0x10, PCI_CAPABILITIES = 0x34,
                  PCI_INTERRUPT_LINE = 0x3c;
constexpr uint16_t PCI_COMMAND_IO = 1, PCI_COMMAND_MEMORY = 2, PCI_COMMAND_MASTER = 4;
constexpr uint8_t PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11;
}  // namespace spec

// The device of bus 0 with this vendor in the low and device in the high half; false: none.
inline bool find_pci_device(uint32_t id, PciDevice& found, uint8_t from = 0) {
  for (uint8_t device = from; device < 32; ++device) {
    found.device = device;
    if (found.read32(0) == id) return true;
  }
  return false;
}

}  // namespace guest
