#include "vmm/kvm/counters.h"

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/core/uapi.h"

namespace vmm {

Result<std::map<std::string, std::uint64_t>> parse_counters(std::span<const std::uint8_t> bytes) {
  const auto bad = [] {
    return fail(Error::host("KVM's statistics are not laid out as api.rst says"));
  };
  if (bytes.size() < sizeof(kvm_stats_header)) return bad();
  const auto header = load<kvm_stats_header>(bytes);
  const std::uint64_t step = sizeof(kvm_stats_desc) + std::uint64_t{header.name_size};
  if (header.desc_offset > bytes.size() || header.data_offset > bytes.size() ||
      header.num_desc > (bytes.size() - header.desc_offset) / step)
    return bad();
  std::map<std::string, std::uint64_t> counters;
  for (std::uint64_t i = 0; i < header.num_desc; ++i) {
    const auto one = bytes.subspan(header.desc_offset + i * step, step);
    const auto flags = load<std::uint32_t>(one, offsetof(kvm_stats_desc, flags));
    const auto size = load<std::uint16_t>(one, offsetof(kvm_stats_desc, size));
    const std::uint64_t at = std::uint64_t{header.data_offset} +
                             load<std::uint32_t>(one, offsetof(kvm_stats_desc, offset));
    if (at > bytes.size() || bytes.size() - at < std::uint64_t{size} * sizeof(std::uint64_t))
      return bad();
    if ((flags & KVM_STATS_TYPE_MASK) != KVM_STATS_TYPE_CUMULATIVE || size != 1) continue;
    const auto value = load<std::uint64_t>(bytes, at);
    const auto name = one.subspan(sizeof(kvm_stats_desc));
    const auto end = std::ranges::find(name, std::uint8_t{0});
    if (value != 0) counters[std::string(name.begin(), end)] = value;
  }
  return counters;
}

}  // namespace vmm
