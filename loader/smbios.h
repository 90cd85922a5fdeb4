// SMBIOS tables (DMTF DSP0134, System Management BIOS Reference Specification 3.4) for a firmware
// that installs them: what the machine is, its processors, its memory.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/units.h"

namespace vmm {

struct SmbiosFacts {
  unsigned sockets = 1;
  unsigned cores_per_socket = 1;
  unsigned threads_per_socket = 1;
  std::uint32_t cpu_signature = 0;  // CPUID.1:EAX
  std::uint32_t cpu_features = 0;   // CPUID.1:EDX
  std::uint64_t memory_below_4g = 0;
  std::uint64_t memory_above_4g = 0;
};

struct SmbiosTables {
  std::vector<std::uint8_t> anchor;  // entry point 3.0, its address field 0
  std::vector<std::uint8_t> tables;  // the structures, end of table included
};

SmbiosTables make_smbios(const SmbiosFacts& facts);

}  // namespace vmm
