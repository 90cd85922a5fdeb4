// Where firmware would put the disks on PCI: their slots, their windows, their interrupts. The
// board and the firmware tables both go by this.
#pragma once

#include <array>
#include <cstdint>

#include "devices/virtio_pci.h"

namespace vmm::pci_layout {

// Devices 3 to 18 of bus 0, one function each.
constexpr unsigned kFirstDisk = 3;
constexpr unsigned kMaxDisks = 16;
// The ISA interrupts of PIRQ A to D (3 to 15), level-triggered: nothing else is on them.
constexpr std::array<std::uint8_t, 4> kPirqIrqs = {10, 10, 11, 11};

constexpr unsigned device_of_disk(unsigned disk) { return kFirstDisk + disk; }
// The PIRQ of INTA# of a device, as the traces of such boards run.
constexpr unsigned pirq_of_device(unsigned device) { return (device + 3) % 4; }
constexpr unsigned irq_of_device(unsigned device) { return kPirqIrqs[pirq_of_device(device)]; }

constexpr VirtioPci::Resources resources_of_disk(unsigned disk) {
  return {.io_base = static_cast<std::uint16_t>(0xc000 + disk * VirtioPci::kIoSize),
          .msix_base = 0xfe00'0000 + disk * 0x8000,
          .modern_base = 0xfe00'4000 + disk * 0x8000,
          .interrupt_line = static_cast<std::uint8_t>(irq_of_device(device_of_disk(disk)))};
}

}  // namespace vmm::pci_layout
