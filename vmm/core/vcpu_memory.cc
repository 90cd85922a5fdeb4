#include "vmm/core/vcpu_memory.h"

#include <algorithm>

namespace vmm {

Result<VcpuMemory> VcpuMemory::of(DebugTarget& target, unsigned vcpu,
                                  const PagingFeatures& features) {
  const CpuState state = VMM_TRY(target.cpu_state(vcpu));
  return VcpuMemory(target.memory(), PagingContext::from(state, features),
                    target.nested_position(vcpu));
}

std::optional<VcpuMemory> VcpuMemory::in_other_level() const {
  if (!position_.other) return std::nullopt;
  return VcpuMemory(
      *machine_, position_.other->paging,
      NestedPosition{.level = position_.level == 1 ? 2u : 1u, .memory = position_.other->memory});
}

std::optional<Gpa> VcpuMemory::place(Gva address) const {
  const auto gpa = walk(address).gpa;
  if (!gpa || position_.memory == nullptr) return gpa;
  return position_.memory->place(*gpa);
}

bool VcpuMemory::read(Gva address, std::span<std::uint8_t> data) const {
  constexpr Gva kPage = 4096;
  while (!data.empty()) {
    const auto part = std::min<std::size_t>(data.size(), kPage - address % kPage);
    const auto at = place(address);
    if (!at || !machine_->read(*at, data.first(part))) return false;
    data = data.subspan(part);
    address += part;
  }
  return true;
}

}  // namespace vmm
