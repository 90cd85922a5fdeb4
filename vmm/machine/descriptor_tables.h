// Descriptors as values, and the tables that hold them read the way the processor reads them (SDM
// vol. 3A 3.4.5, 6.11, 6.14.1, 7.2).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/machine/explain_facts.h"

namespace vmm {

// An entry of an IDT outside real mode.
struct Gate {
  std::uint64_t low = 0;
  std::uint64_t high = 0;  // long mode
  bool wide = false;       // 16 bytes, of long mode
  unsigned type = 0;       // bits 43:40
  bool system = false;     // bit 44 is 0, as it has to be
  bool present = false;
  unsigned dpl = 0;
  std::uint16_t selector = 0;
  unsigned ist = 0;  // 0: none
  Gva handler = 0;   // offset into the code segment

  bool is_empty() const { return low == 0 && high == 0; }
  bool is_16bit() const { return type == 6 || type == 7; }
  bool is_task() const { return !wide && system && type == 5; }
  // An interrupt or trap gate.
  bool is_handler() const {
    return system && (type == 0xe || type == 0xf || (!wide && is_16bit()));
  }
};
// 16 bytes are a gate of long mode, 8 one of another mode.
Gate decode_gate(std::span<const std::uint8_t> raw);
// "interrupt", "trap", "task", "type 4h".
std::string gate_type_name(const Gate& gate);

// An entry of a GDT or LDT.
struct Descriptor {
  std::uint64_t low = 0;
  std::uint64_t base = 0;
  std::uint32_t limit = 0;  // in bytes
  unsigned type = 0;        // bits 43:40
  bool system = false;
  bool present = false;
  unsigned dpl = 0;
  bool l = false;
  bool db = false;
};
// 8 bytes, or 16 of a system segment in long mode.
Descriptor decode_descriptor(std::span<const std::uint8_t> raw);
// "code 64-bit, readable", "busy 64-bit TSS"; `wide`: in long mode.
std::string descriptor_name(const Descriptor& descriptor, bool wide);

// Reads as the processor does for itself: supervisor whatever the CPL.
struct SystemReader {
  const Facts& facts;
  bool known = true;      // false: the dump does not hold it
  std::string problem{};  // why the last read failed

  bool long_mode() const { return (facts.paging.efer & spec::EFER_LMA) != 0; }
  // `size` bytes at a linear address; empty when not all of them can be read.
  std::vector<std::uint8_t> read(Gva linear, std::size_t size);
  // The 8 bytes of a descriptor in the GDT; its limit is checked first.
  std::optional<std::uint64_t> descriptor(std::uint16_t selector);
  // An entry of the IDT; nothing in real mode, beyond its limit, or where it cannot be read.
  std::optional<Gate> gate(unsigned vector);
};

}  // namespace vmm
