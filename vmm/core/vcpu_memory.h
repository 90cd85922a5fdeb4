// Memory as the instructions of a stopped vCPU find it: through its own page tables and, in L2,
// through its hypervisor's nested ones.
#pragma once

#include <optional>
#include <span>

#include "vmm/core/debug_target.h"
#include "vmm/core/page_walk.h"

namespace vmm {

class VcpuMemory {
 public:
  // Refers to `target`, and holds until the vCPU runs.
  static Result<VcpuMemory> of(DebugTarget& target, unsigned vcpu, const PagingFeatures& features);
  // As the vCPU would find it in the other level; nothing where that is not known.
  std::optional<VcpuMemory> in_other_level() const;

  // Through its own tables alone: in L2 what that leads to is L2's physical address.
  Walk walk(Gva address) const { return walk_page(physical(), context_, address, {}); }
  // Where in the machine's memory.
  std::optional<Gpa> place(Gva address) const;
  // False when any byte is not mapped, or is no RAM; `data` is then undefined.
  bool read(Gva address, std::span<std::uint8_t> data) const;

  const PagingContext& context() const { return context_; }
  const NestedPosition& position() const { return position_; }
  // What its page tables lie in.
  const MemoryReader& physical() const {
    if (position_.memory != nullptr) return *position_.memory;
    return *machine_;
  }

 private:
  VcpuMemory(const MemoryReader& machine, PagingContext context, NestedPosition position)
      : machine_(&machine), context_(context), position_(std::move(position)) {}

  const MemoryReader* machine_;
  PagingContext context_;
  NestedPosition position_;
};

}  // namespace vmm
