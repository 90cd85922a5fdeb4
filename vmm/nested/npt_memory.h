// L2's physical memory, as the hypervisor's nested page tables map it.
#pragma once

#include <algorithm>

#include "vmm/core/nested_position.h"
#include "vmm/nested/npt.h"

namespace vmm::nested {

class NptMemory final : public NestedMemory {
 public:
  // `hypervisor` is L1's physical memory and outlives this.
  NptMemory(const MemoryReader& hypervisor, const NptContext& context)
      : hypervisor_(hypervisor), context_(context) {}

  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    constexpr std::uint64_t kPage = 4096;
    while (!data.empty()) {
      const auto at = place(gpa);
      const auto part =
          static_cast<std::size_t>(std::min<std::uint64_t>(kPage - gpa % kPage, data.size()));
      if (!at || !hypervisor_.read(*at, data.first(part))) return false;
      data = data.subspan(part);
      gpa += part;
    }
    return true;
  }
  std::optional<Gpa> place(Gpa l2_address) const override {
    return walk_npt(hypervisor_, context_, l2_address, {}).walk.gpa;
  }
  std::vector<std::string> describe(Gpa l2_address) const override {
    return nested::describe(walk_npt(hypervisor_, context_, l2_address, {}));
  }

 private:
  const MemoryReader& hypervisor_;
  NptContext context_;
};

}  // namespace vmm::nested
