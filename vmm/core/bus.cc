#include "vmm/core/bus.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"

namespace vmm {

Result<void> Bus::map(const BusRange& range, Device& device) {
  const auto describe = [this](const BusRange& r, const Device& d) {
    return fmt::format("{} at {} {:x}h-{:x}h", d.name(), name_, r.base, r.base + r.size - 1);
  };
  if (range.size == 0 || range.base >= limit_ || range.size > limit_ - range.base)
    return fail(Error::internal(fmt::format("{} does not fit the bus", describe(range, device))));
  auto next = mappings_.lower_bound(range.base);
  if (next != mappings_.end() && next->first < range.base + range.size)
    return fail(Error::internal(fmt::format("{} overlaps {}", describe(range, device),
                                            describe(next->second.range, *next->second.device))));
  if (next != mappings_.begin()) {
    const Mapping& before = std::prev(next)->second;
    if (before.range.base + before.range.size > range.base)
      return fail(Error::internal(fmt::format("{} overlaps {}", describe(range, device),
                                              describe(before.range, *before.device))));
  }
  mappings_.emplace(range.base, Mapping{range, &device});
  return {};
}

void Bus::unmap(std::uint64_t base) {
  VMM_CHECK(mappings_.erase(base) == 1, "nothing on this bus begins there");
}

const Bus::Mapping* Bus::lookup(std::uint64_t address) const {
  auto after = mappings_.upper_bound(address);
  if (after == mappings_.begin()) return nullptr;
  const Mapping& mapping = std::prev(after)->second;
  return address - mapping.range.base < mapping.range.size ? &mapping : nullptr;
}

Device* Bus::find(std::uint64_t address) const {
  const Mapping* mapping = lookup(address);
  return mapping != nullptr ? mapping->device : nullptr;
}

UnclaimedAccess& Bus::count_unclaimed(std::uint64_t address) {
  const auto it = unclaimed_.find(address);
  if (it != unclaimed_.end()) return it->second;
  return unclaimed_.size() < kMaxUnclaimed ? unclaimed_[address] : other_unclaimed_;
}

Device* Bus::read(std::uint64_t address, std::span<std::uint8_t> data) {
  fill_ones(data);
  const Mapping* mapping = lookup(address);
  if (mapping == nullptr) {
    ++count_unclaimed(address).reads;
    return nullptr;
  }
  const BusRange& range = mapping->range;
  if (range.width == BusWidth::Byte && data.size() > 1) {
    // Each byte is an access of its own, as on an ISA bus; the last ones may belong to a neighbour.
    Device* answered = nullptr;
    for (std::size_t i = 0; i < data.size(); ++i) {
      Device* device = read(address + i, data.subspan(i, 1));
      if (answered == nullptr) answered = device;
    }
    return answered;
  }
  bring_up_to_date(*mapping->device);
  const bool refused = range.width == BusWidth::Dword && (data.size() != 4 || (address & 3) != 0);
  const std::uint64_t offset = address - range.base;
  if (refused || data.size() > range.size - offset ||
      mapping->device->read(range.displacement + offset, data) != Access::Ok) {
    fill_ones(data);
    ++count_unclaimed(address).reads;
    return nullptr;
  }
  return mapping->device;
}

Device* Bus::write(std::uint64_t address, std::span<const std::uint8_t> data) {
  const Mapping* mapping = lookup(address);
  if (mapping == nullptr) {
    ++count_unclaimed(address).writes;
    return nullptr;
  }
  const BusRange& range = mapping->range;
  if (range.width == BusWidth::Byte && data.size() > 1) {
    Device* answered = nullptr;
    for (std::size_t i = 0; i < data.size(); ++i) {
      Device* device = write(address + i, data.subspan(i, 1));
      if (answered == nullptr) answered = device;
    }
    return answered;
  }
  bring_up_to_date(*mapping->device);
  const bool refused = range.width == BusWidth::Dword && (data.size() != 4 || (address & 3) != 0);
  const std::uint64_t offset = address - range.base;
  if (refused || data.size() > range.size - offset ||
      mapping->device->write(range.displacement + offset, data) != Access::Ok) {
    ++count_unclaimed(address).writes;
    return nullptr;
  }
  return mapping->device;
}

std::string Bus::print() const {
  std::string text;
  for (const auto& [base, mapping] : mappings_)
    text += fmt::format("{} {:04x}h-{:04x}h {}\n", name_, base, base + mapping.range.size - 1,
                        mapping.device->name());
  return text;
}

}  // namespace vmm
