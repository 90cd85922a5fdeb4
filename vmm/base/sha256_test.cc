#include "vmm/base/sha256.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace vmm {
namespace {

// FIPS 180-2, appendix B.
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

TEST(Sha256, of_known_texts) {
  EXPECT_EQ(sha256_hex(std::string_view("abc")), kAbc);
  EXPECT_EQ(sha256_hex(std::string_view()), kNothing);
  EXPECT_EQ(Sha256().hex(), kNothing);
}

TEST(Sha256, of_pieces_is_that_of_the_whole) {
  const std::vector<std::uint8_t> bytes(100'000, 0x5a);
  for (const std::size_t piece : {1u, 63u, 64u, 65u, 99'999u}) {
    Sha256 digest;
    for (std::size_t at = 0; at < bytes.size(); at += piece)
      digest.update(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    EXPECT_EQ(digest.hex(), sha256_hex(bytes)) << piece;
  }
}

}  // namespace
}  // namespace vmm
