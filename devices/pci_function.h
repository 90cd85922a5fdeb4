// What a function on the PCI bus is to the host bridge and to the board.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace vmm {

// A range of ports or memory that a function decodes, as its BARs and its command register say now.
struct PciWindow {
  bool memory = false;
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  std::uint64_t displacement = 0;  // of the device's registers behind it

  bool operator==(const PciWindow&) const = default;
};

// The configuration space of one function. Accesses have 1, 2 or 4 bytes that lie within one dword
// of its 256 bytes.
class PciFunction {
 public:
  virtual ~PciFunction() = default;
  virtual void read_config(std::uint8_t offset, std::span<std::uint8_t> data) = 0;
  virtual void write_config(std::uint8_t offset, std::span<const std::uint8_t> data) = 0;
};

}  // namespace vmm
