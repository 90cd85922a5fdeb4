// For tests: one-byte accesses as expressions.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "vmm/core/device.h"

namespace vmm {

inline std::uint8_t in(Device& device, std::uint64_t offset) {
  std::array<std::uint8_t, 1> data = {0xcc};
  EXPECT_EQ(device.read(offset, data), Access::Ok) << device.name() << " offset " << offset;
  return data[0];
}

inline void out(Device& device, std::uint64_t offset, unsigned value) {
  const std::array<std::uint8_t, 1> data = {static_cast<std::uint8_t>(value)};
  EXPECT_EQ(device.write(offset, data), Access::Ok) << device.name() << " offset " << offset;
}

}  // namespace vmm
