// Leaf Dh: the XSAVE components that a set of features needs, with their sizes and offsets.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/core/cpuid_table.h"

namespace vmm {

// A user component of XCR0 beyond x87 and SSE (SDM Vol. 1, 13.5).
struct XsaveComponent {
  unsigned number = 0;       // bit in XCR0
  std::string_view feature;  // the feature that brings it
  std::uint32_t size = 0;    // bytes
  std::uint32_t offset = 0;  // in the standard (not compacted) format
  std::uint32_t flags = 0;   // ECX: bit 1 aligned when compacted, bit 2 needs XFD
};

// The layout that Intel's or AMD's silicon uses. Software must not assume it, but the hardware of
// one vendor has only this one.
std::span<const XsaveComponent> xsave_layout(bool amd);

// Rebuilds leaf Dh of `table` for the features it has: absent without xsave, else components, sizes
// at reset (XCR0 = 1) and the XSAVE flags of D.1.EAX kept. Components that `given` (a host's table)
// describes keep its sizes, offsets and supervisor states; pass an empty table for a named model.
void build_xsave(CpuidTable& table, bool amd, const CpuidTable& given);

}  // namespace vmm
