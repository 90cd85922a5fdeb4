// SHA-256, for digests of models, guests and images.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace vmm {

// 64 lower-case hex digits.
std::string sha256_hex(std::span<const std::uint8_t> bytes);
std::string sha256_hex(std::string_view text);

}  // namespace vmm
