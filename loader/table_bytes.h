// Building tables byte by byte.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {

// The byte that makes `bytes`, where it is still 0, sum up to 0.
inline std::uint8_t checksum(std::span<const std::uint8_t> bytes) {
  return static_cast<std::uint8_t>(-std::accumulate(bytes.begin(), bytes.end(), 0));
}

inline void append_bytes(std::vector<std::uint8_t>& to, std::span<const std::uint8_t> more) {
  to.insert(to.end(), more.begin(), more.end());
}
inline void append_bytes(std::vector<std::uint8_t>& to, std::initializer_list<std::uint8_t> more) {
  to.insert(to.end(), more.begin(), more.end());
}

// A little-endian number.
template <typename T>
void append_number(std::vector<std::uint8_t>& to, T value) {
  to.resize(to.size() + sizeof value);
  store(to, to.size() - sizeof value, value);
}

}  // namespace vmm
