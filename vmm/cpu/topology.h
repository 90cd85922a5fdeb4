// Where a vCPU sits (socket, core, thread) and the CPUID leaves that tell the guest so.
//
// The leaves are built as ShapeLeaves, which has no room for a feature bit: laying out a machine
// can never take away a feature.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "vmm/core/cpuid_table.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

// What topology decides, and nothing else.
struct ShapeLeaves {
  std::uint8_t logical_count = 1;        // 1.EBX[23:16]: ids per package, a power of two
  std::vector<CpuidRegs> leaf_4;         // deterministic caches, Intel, with the closing zero entry
  std::vector<CpuidRegs> leaf_b;         // x2APIC topology, without the id in EDX
  std::vector<CpuidRegs> leaf_1f;        // the same on CPUs that have 1Fh
  std::vector<CpuidRegs> leaf_8000001d;  // caches, AMD with topoext
  std::uint32_t ext_8_ecx = 0;           // 80000008.ECX: AMD's count of threads
  bool has_8000001e = false;             // AMD with topoext; filled per vCPU
  std::array<std::uint32_t, 2> l1 = {0, 0};     // 80000005 ECX, EDX: AMD's L1 sizes
  std::array<std::uint32_t, 2> l2_l3 = {0, 0};  // 80000006 ECX, EDX
};

// Which of the leaves a CPU has.
struct ShapeWish {
  std::uint32_t max_leaf = 0;
  std::uint32_t max_ext_leaf = 0;
  bool amd = false;      // AMD's or Hygon's way of counting
  bool topoext = false;  // 80000001.ECX[22]
};

ShapeLeaves shape_leaves(const Topology& topology, std::span<const CpuCache> caches,
                         const ShapeWish& wish);

// Replaces the topology leaves of `table`, for vCPU 0; keeps every other bit.
void apply_shape(const ShapeLeaves& shape, CpuidTable& table);

// The caches that leaf 4 or 8000001Dh of an existing table describe (for the `host` rule).
std::vector<CpuCache> caches_of(const CpuidTable& table);

}  // namespace vmm
