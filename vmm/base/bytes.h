// Little-endian loads and stores on byte spans, and bit slices. The caller has checked the bounds;
// a wrong one is a check, never an overrun.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "vmm/base/check.h"

namespace vmm {

static_assert(std::endian::native == std::endian::little, "an x86 host is assumed");

// The T at `offset` of `bytes`.
template <typename T>
requires std::is_trivially_copyable_v<T> T load(std::span<const std::uint8_t> bytes,
                                                std::size_t offset = 0) {
  VMM_CHECK(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset, "load out of bounds");
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Puts `value` at `offset` of `bytes`.
template <typename T>
requires std::is_trivially_copyable_v<T>
void store(std::span<std::uint8_t> bytes, std::size_t offset, const T& value) {
  VMM_CHECK(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset, "store out of bounds");
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// 0 to 8 bytes as an unsigned number, zero-extended.
inline std::uint64_t load_uint(std::span<const std::uint8_t> bytes) {
  VMM_CHECK(bytes.size() <= 8, "load_uint takes at most 8 bytes");
  std::uint64_t value = 0;
  if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
  return value;
}

// The low bytes of `value` into 0 to 8 bytes.
inline void store_uint(std::span<std::uint8_t> bytes, std::uint64_t value) {
  VMM_CHECK(bytes.size() <= 8, "store_uint takes at most 8 bytes");
  if (!bytes.empty()) std::memcpy(bytes.data(), &value, bytes.size());
}

// `text` at `offset`, without an ending 0; there is room.
inline void put_text(std::span<std::uint8_t> bytes, std::size_t offset, std::string_view text) {
  VMM_CHECK(offset <= bytes.size() && text.size() <= bytes.size() - offset,
            "put_text out of bounds");
  std::copy(text.begin(), text.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

// What an absent device answers.
inline void fill_ones(std::span<std::uint8_t> bytes) {
  std::fill(bytes.begin(), bytes.end(), std::uint8_t{0xff});
}

// Bits high:low of `value`, moved down to bit 0; 63 >= high >= low.
constexpr std::uint64_t bits(std::uint64_t value, unsigned high, unsigned low) {
  return (value >> low) & (~std::uint64_t{0} >> (63 - (high - low)));
}

constexpr bool bit(std::uint64_t value, unsigned index) { return ((value >> index) & 1) != 0; }

// The low `count` bits set, 0 to 64.
constexpr std::uint64_t low_mask(unsigned count) {
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t alignment) {
  return value & ~(alignment - 1);
}

// Rounds up to a power of two; wraps to 0 past the top, which the caller excludes.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return align_down(value + alignment - 1, alignment);
}

}  // namespace vmm
