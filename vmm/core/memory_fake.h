// For tests: RAM from address 0 on, and nothing behind it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/bytes.h"
#include "vmm/base/units.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

class FakeRam : public MemoryReader {
 public:
  explicit FakeRam(std::uint64_t size = 2_MiB) : bytes_(size) {}

  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    if (gpa > bytes_.size() || data.size() > bytes_.size() - gpa) return false;
    if (vga_is_trapped && gpa < 0xc0000 && gpa + data.size() > 0xa0000) return false;
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(gpa), data.size(), data.begin());
    return true;
  }
  void put(Gpa gpa, const std::vector<std::uint8_t>& data) {
    std::copy(data.begin(), data.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(gpa));
  }
  void put64(Gpa gpa, std::uint64_t value) { store(std::span(bytes_), gpa, value); }
  void put32(Gpa gpa, std::uint32_t value) { store(std::span(bytes_), gpa, value); }
  std::vector<std::uint8_t>& bytes() { return bytes_; }

  bool vga_is_trapped = false;  // A0000h-BFFFFh is no RAM

 private:
  std::vector<std::uint8_t> bytes_;
};

}  // namespace vmm
