// For tests: L2's memory, so much higher in its hypervisor's.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "vmm/core/nested_position.h"

namespace vmm {

class FakeNestedMemory final : public NestedMemory {
 public:
  // `size` bytes from `shift` on in `ram`, which outlives this.
  FakeNestedMemory(const MemoryReader& ram, Gpa shift, Gpa size)
      : ram_(ram), shift_(shift), size_(size) {}

  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    const auto at = place(gpa);
    return at && data.size() <= size_ - gpa && ram_.read(*at, data);
  }
  std::optional<Gpa> place(Gpa gpa) const override {
    return gpa < size_ ? std::optional<Gpa>(gpa + shift_) : std::nullopt;
  }
  std::vector<std::string> describe(Gpa gpa) const override {
    return {fmt::format("leads to {:X}h", gpa + shift_)};
  }

 private:
  const MemoryReader& ram_;
  Gpa shift_;
  Gpa size_;
};

}  // namespace vmm
