// L2's physical memory, as the hypervisor's EPT maps it.
#pragma once

#include <algorithm>

#include "vmm/core/nested_position.h"
#include "vmm/nested/ept.h"

namespace vmm::nested {

class EptMemory final : public NestedMemory {
 public:
  // `hypervisor` is L1's physical memory and outlives this.
  EptMemory(const MemoryReader& hypervisor, std::uint64_t pointer, const EptFeatures& features)
      : hypervisor_(hypervisor), pointer_(pointer), features_(features) {}

  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    while (!data.empty()) {
      const EptWalk walk = walk_to(gpa);
      if (!walk.address) return false;
      const std::uint64_t left = walk.page_size - (gpa & (walk.page_size - 1));
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, data.size()));
      if (!hypervisor_.read(*walk.address, data.first(part))) return false;
      data = data.subspan(part);
      gpa += part;
    }
    return true;
  }
  std::optional<Gpa> place(Gpa l2_address) const override { return walk_to(l2_address).address; }
  std::vector<std::string> describe(Gpa l2_address) const override {
    return nested::describe(walk_to(l2_address));
  }

 private:
  EptWalk walk_to(Gpa gpa) const { return walk_ept(hypervisor_, pointer_, features_, gpa, {}); }

  const MemoryReader& hypervisor_;
  std::uint64_t pointer_;
  EptFeatures features_;
};

}  // namespace vmm::nested
