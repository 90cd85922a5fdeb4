#include "vmm/base/sha256.h"

#include <sha2.h>

#include <array>

namespace vmm {

std::string sha256_hex(std::span<const std::uint8_t> bytes) {
  std::array<char, SHA256_DIGEST_STRING_LENGTH> digits{};
  SHA256Data(bytes.data(), bytes.size(), digits.data());
  return digits.data();
}

std::string sha256_hex(std::string_view text) {
  return sha256_hex(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

}  // namespace vmm
