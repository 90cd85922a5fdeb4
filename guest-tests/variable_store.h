// For tests: what lies below flash-firmware.bin.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {

inline constexpr std::size_t kFlashSize =
    0x4000;  // of flash-firmware.bin and of what lies below it

// A volume for variables with an empty store in it.
inline std::string empty_variable_store(std::size_t size = kFlashSize) {
  std::vector<std::uint8_t> bytes(size, 0xff);
  std::fill_n(bytes.begin(), 0x64, std::uint8_t{0});
  constexpr std::uint8_t kNvData[] = {0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c,
                                      0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50};
  constexpr std::uint8_t kStore[] = {0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43,
                                     0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92};
  std::copy(std::begin(kNvData), std::end(kNvData), bytes.begin() + 0x10);
  store<std::uint64_t>(bytes, 0x20, size);
  put_text(bytes, 0x28, "_FVH");
  store<std::uint16_t>(bytes, 0x30, 0x48);
  std::uint16_t sum = 0;
  for (std::size_t at = 0; at < 0x48; at += 2)
    sum = static_cast<std::uint16_t>(sum + load<std::uint16_t>(bytes, at));
  store<std::uint16_t>(bytes, 0x32, static_cast<std::uint16_t>(-sum));
  std::copy(std::begin(kStore), std::end(kStore), bytes.begin() + 0x48);
  store<std::uint32_t>(bytes, 0x58, 0x1000 - 0x48);
  bytes[0x5c] = 0x5a;
  bytes[0x5d] = 0xfe;
  return {bytes.begin(), bytes.end()};
}

}  // namespace vmm
