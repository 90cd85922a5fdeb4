// The guest's page tables, walked from outside by the rules of the manual (SDM vol. 3A ch. 4, APM
// vol. 2 ch. 5): which entry was used at each level, where the walk stopped, the first rule that
// failed and the CPUID or control-register bit that rule depends on. Pure: reads memory, changes
// nothing (no accessed or dirty bits).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/cpu_state.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

enum class PagingMode { None, Bits32, Pae, Level4, Level5 };

// The CPU's part in the rules, from the CPUID that the guest sees.
struct PagingFeatures {
  unsigned phys_bits = 36;  // MAXPHYADDR
  bool pse = true;
  bool pse36 = true;
  bool pae = true;
  bool nx = true;
  bool pdpe1gb = false;
  bool la57 = false;
  bool amd = false;  // bit 8 of PML4E and PML5E must be zero, ...

  // MAXPHYADDR is held to 32..52, whatever the table says.
  static PagingFeatures from(const CpuidTable& cpuid);
  // Of a CPU that nothing is known of: no rule that hangs on a feature fails a walk.
  static PagingFeatures all_allowed();
};

// The registers that steer a walk.
struct PagingContext {
  std::uint64_t cr0 = 0;
  std::uint64_t cr3 = 0;
  std::uint64_t cr4 = 0;
  std::uint64_t efer = 0;
  std::uint64_t rflags = 0;  // AC matters under SMAP
  PagingFeatures features;

  static PagingContext from(const CpuState& state, const PagingFeatures& features);
  PagingMode mode() const;
};

// What the access wants.
struct PageAccess {
  bool write = false;
  bool fetch = false;
  bool user = false;  // CPL 3
  // Of the processor itself (IDT, GDT, TSS): supervisor whatever the CPL is, and RFLAGS.AC does not
  // lift SMAP (SDM 4.6.1).
  bool implicit = false;
};

struct WalkStep {
  std::string_view entry_name;  // "PML5E", "PML4E", "PDPTE", "PDE", "PTE"
  unsigned level = 0;           // 5 to 1
  unsigned index = 0;
  Gpa entry_gpa = 0;
  std::uint64_t entry = 0;
  std::uint64_t page_size = 0;  // not 0: the walk ended here with a page of this size
};

// The first rule that failed.
struct WalkFailure {
  std::string rule;    // stable id: "not-present", "reserved-ps-pdpte", "table-not-ram", "nx", ...
  unsigned level = 0;  // of the entry at fault, 0 when none is (non-canonical address)
  std::string text;    // a sentence with the values found
  std::string
      depends_on;        // "CPUID 80000001h.EDX[26] (pdpe1gb)", "EFER.NXE", ...; empty: on nothing
  std::string feature;   // name of the CPUID feature that would make it legal; empty: none
  unsigned vector = 14;  // 14 #PF, 13 #GP
  std::uint32_t error_code = 0;  // of the #PF (or #GP for a non-canonical address: 0)
};

// The bits of a #PF error code, "P|RSVD|I"; "0" when none is set.
std::string page_fault_code_name(std::uint32_t error_code);

struct Walk {
  PagingMode mode = PagingMode::None;
  std::vector<WalkStep> steps;
  std::optional<Gpa> gpa;  // where the address leads, when the walk succeeded
  std::uint64_t page_size = 0;
  // What the entries of the walk allow together (SDM 4.6); true as far as the walk got.
  bool writable = true;    // R/W in each
  bool user = true;        // U/S in each
  bool executable = true;  // NX in none
  std::optional<WalkFailure> failure;
};

// Walks `gva` for `access`; outside 64-bit modes the low 32 bits of it. Protection keys, shadow
// stacks and address tags (LAM, UAI) are left out: what they decide is not in the registers here.
Walk walk_page(const MemoryReader& memory, const PagingContext& context, Gva gva,
               const PageAccess& access);

// "PDPTE[0] at 2000h = 83h P RW PS" lines, one a step, the one at fault marked, then where it
// leads.
std::vector<std::string> describe(const Walk& walk);

// Whether each present entry of the table at `table` keeps the rules on reserved bits that hold at
// `level`; false also when it is not RAM. Tells a table of that level from other data.
bool table_keeps_rules(const MemoryReader& memory, const PagingContext& context, Gpa table,
                       unsigned level);

// A use of a feature that the CPU model lacks, or a reserved bit, found in the live tables.
struct PagingFinding {
  std::string rule;
  std::string text;  // "PDPTE[0..31] map 1 GiB pages, CPUID ... pdpe1gb is 0"
  std::string feature;
  std::uint64_t entries = 0;  // how many entries break it
};

// The whole of the live tables against the rules; each rule is named once, also where the host
// tolerates it. Looks at no more than `max_entries` entries (and says so, rule "lint-incomplete").
// Tables that map themselves are looked at once a level.
std::vector<PagingFinding> lint_paging(const MemoryReader& memory, const PagingContext& context,
                                       std::size_t max_entries = 1'000'000);

}  // namespace vmm
