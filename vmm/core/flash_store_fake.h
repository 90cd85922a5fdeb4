// For tests: flash bytes in memory, which can refuse to be written, and which remember each write.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "vmm/core/flash_store.h"

namespace vmm {

class FakeFlashStore final : public FlashStore {
 public:
  explicit FakeFlashStore(std::size_t size) : array(size, 0xff) {}

  std::span<const std::uint8_t> bytes() const override { return array; }
  bool is_writable() const override { return writable; }
  bool write(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    if (!writable) return false;
    std::copy(data.begin(), data.end(), array.begin() + static_cast<std::ptrdiff_t>(offset));
    if (remembers) writes.emplace_back(offset, std::vector<std::uint8_t>(data.begin(), data.end()));
    return true;
  }

  std::vector<std::uint8_t> array;
  bool writable = true;
  bool remembers = true;
  std::vector<std::pair<std::uint64_t, std::vector<std::uint8_t>>> writes;
};

}  // namespace vmm
