// What firmware tables say about the board. The board fills it in, so that both agree.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "vmm/base/units.h"

namespace vmm {

struct BoardDescription {
  // Of every vCPU, vCPU 0 first; no two alike.
  std::vector<std::uint32_t> apic_ids;
  std::uint32_t local_apic_address = 0xfee0'0000;
  std::uint32_t io_apic_address = 0xfec0'0000;
  std::uint8_t io_apic_id = 0;          // what its ID register says after power-on
  std::uint8_t io_apic_version = 0x20;  // 11h or 20h
  bool keyboard = false;                // someone can type: drivers should look for the 8042
  unsigned sci = 9;                     // an ISA interrupt, 3 to 15
  std::uint16_t pm_base = 0x600;        // of AcpiPm, a multiple of 16
  bool suspend = true;                  // S3 is offered
  // Where the hole for PCI's memory begins, at or above the end of RAM below 4 GiB.
  std::uint32_t pci_memory_base = 0xc000'0000;
  // INTA# of devices on PCI bus 0, and the ISA interrupt that each is led to, as a level.
  struct PciInterrupt {
    unsigned device = 0;  // 1 to 31
    unsigned irq = 0;     // 3 to 15
  };
  std::vector<PciInterrupt> pci_interrupts = {};
  std::uint32_t cpu_signature = 0x600;  // CPUID.1:EAX, for the MP table
  std::uint32_t cpu_features = 0x201;   // CPUID.1:EDX, for the MP table
};

// Local APIC IDs from here on need x2APIC mode: 8 bits hold them no more, and FFh addresses all.
constexpr std::uint32_t kFirstX2ApicId = 255;

// The ISA interrupts that PCI ones are led to, each once, in ascending order.
inline std::vector<unsigned> pci_irqs(const BoardDescription& board) {
  std::set<unsigned> irqs;
  for (const auto& interrupt : board.pci_interrupts) irqs.insert(interrupt.irq);
  return {irqs.begin(), irqs.end()};
}

}  // namespace vmm
