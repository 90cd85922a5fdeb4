// Extended page tables, walked from outside (SDM Vol. 3C 28.3): which entry was used at each level,
// what it allows, and the first rule that failed. Reads memory, changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/guest_memory.h"

namespace vmm::nested {

struct EptAccess {
  bool write = false;
  bool fetch = false;
  bool user = false;  // of a user-mode linear address: counts under mode-based execute control
};

// What the hypervisor's processor offers.
struct EptFeatures {
  unsigned phys_bits = 52;          // MAXPHYADDR
  bool execute_only = true;         // IA32_VMX_EPT_VPID_CAP[0]
  bool pages_2m = true;             // [16]
  bool pages_1g = true;             // [17]
  bool mode_based_execute = false;  // the control of the VMCS

  static EptFeatures from(std::optional<std::uint64_t> ept_vpid_cap, unsigned phys_bits,
                          bool mode_based_execute);
};

struct EptStep {
  std::string_view entry_name;  // "EPT PML4E", "EPT PDPTE", ...
  unsigned index = 0;
  Gpa entry_gpa = 0;
  std::uint64_t entry = 0;
};

struct EptWalk {
  std::vector<EptStep> steps;
  std::optional<Gpa> address;  // of the hypervisor's physical memory, when the walk succeeded
  std::uint64_t page_size = 0;
  unsigned memory_type = 0;  // of the leaf
  bool ignore_pat = false;
  bool readable = true, writable = true, executable = true;  // by all entries together
  std::optional<unsigned> exit_reason;  // 48 violation, 49 misconfiguration; nothing: it succeeded
  std::string failure;                  // a sentence, with the capability bit it hangs on
};

// `pointer` is the EPT pointer of the VMCS.
EptWalk walk_ept(const MemoryReader& memory, std::uint64_t pointer, const EptFeatures& features,
                 Gpa l2_address, const EptAccess& access);

// "EPT PDPTE[0] at 5000h = 87h RWX 1 GiB UC" lines, one a step, then where it leads.
std::vector<std::string> describe(const EptWalk& walk);
// "UC", "WB", ...
std::string_view memory_type_name(unsigned type);

}  // namespace vmm::nested
