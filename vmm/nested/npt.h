// The walk of a guest physical address through nested page tables (APM vol. 2, 15.25.5), and the
// EXITINFO1 that a failed one gives. The tables have the format of the hypervisor's own paging mode
// at VMRUN (15.25.3), so that this is a layer over vmm/core/page_walk: what differs is that each
// access counts as a user's, that CR0.WP, SMEP and SMAP of the hypervisor do not matter, and that
// addresses are physical ones, which are never sign-extended.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/cpuid_table.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/page_walk.h"
#include "vmm/nested/vmcb.h"

namespace vmm::nested {

struct NptContext {
  std::uint64_t n_cr3 = 0;
  std::uint64_t cr4 = 0;  // of the hypervisor, as EFER
  std::uint64_t efer = 0;
  PagingFeatures features;
  bool gmet = false;   // guest mode execute trap (15.25.13)
  bool rogpt = false;  // read-only guest page tables (15.25.5)

  // Without a CPUID (null) no rule that hangs on a feature fails a walk, and GMET and ROGPT are on
  // where the VMCB says so.
  static NptContext from(const Vmcb& vmcb, std::uint64_t cr4, std::uint64_t efer,
                         const CpuidTable* cpuid);
  PagingMode mode() const;
};

struct NptAccess {
  bool write = false;
  bool fetch = false;
  // Of one of the guest's own page tables: a write, unless ROGPT is on.
  bool guest_table = false;
  bool guest_user = false;  // at CPL 3 of the guest: GMET asks
};

struct NptWalk {
  // Steps, rights and the first rule that failed; `gpa` is the hypervisor's physical address.
  // Beside the rules of page_walk: "out-of-reach" (no level translates that bit) and "gmet".
  Walk walk;
  std::uint64_t exit_info1 = 0;  // of the VMEXIT_NPF, when the walk failed
};

NptWalk walk_npt(const MemoryReader& memory, const NptContext& context, Gpa gpa,
                 const NptAccess& access);

// A line a step, the one at fault marked; then where it leads, or EXITINFO1.
std::vector<std::string> describe(const NptWalk& walk);

}  // namespace vmm::nested
