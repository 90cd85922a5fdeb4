#include "vmm/kvm/counters.h"

#include <gtest/gtest.h>

#include "vmm/base/bytes.h"
#include "vmm/core/uapi.h"

namespace vmm {
namespace {

constexpr std::uint32_t kNameSize = 16;
constexpr std::size_t kDescriptor = sizeof(kvm_stats_desc) + kNameSize;
constexpr std::size_t kDescriptors = sizeof(kvm_stats_header),
                      kData = kDescriptors + 3 * kDescriptor;

// exits = 5, halted now = 1, a histogram of two.
std::vector<std::uint8_t> file() {
  std::vector<std::uint8_t> bytes(kData + 4 * sizeof(std::uint64_t));
  const kvm_stats_header header{.flags = 0,
                                .name_size = kNameSize,
                                .num_desc = 3,
                                .id_offset = 0,
                                .desc_offset = kDescriptors,
                                .data_offset = kData};
  store(std::span(bytes), 0, header);
  const auto describe = [&](std::size_t i, std::uint32_t type, std::uint16_t size,
                            std::uint32_t offset, std::string_view name) {
    const std::size_t at = kDescriptors + i * kDescriptor;
    store(std::span(bytes), at + offsetof(kvm_stats_desc, flags), type);
    store(std::span(bytes), at + offsetof(kvm_stats_desc, size), size);
    store(std::span(bytes), at + offsetof(kvm_stats_desc, offset), offset);
    std::ranges::copy(name,
                      bytes.begin() + static_cast<std::ptrdiff_t>(at + sizeof(kvm_stats_desc)));
  };
  describe(0, KVM_STATS_TYPE_CUMULATIVE, 1, 0, "exits");
  describe(1, KVM_STATS_TYPE_INSTANT, 1, 8, "blocking");
  describe(2, KVM_STATS_TYPE_LINEAR_HIST, 2, 16, "histogram");
  store(std::span(bytes), kData, std::uint64_t{5});
  store(std::span(bytes), kData + 8, std::uint64_t{1});
  return bytes;
}

TEST(Counters, are_those_that_count) {
  const auto counters = parse_counters(file());
  ASSERT_TRUE(counters) << counters.error().text();
  EXPECT_EQ(*counters, (std::map<std::string, std::uint64_t>{{"exits", 5}}));
}

TEST(Counters, zeroes_are_left_out) {
  auto bytes = file();
  store(std::span(bytes), kData, std::uint64_t{0});
  EXPECT_TRUE(parse_counters(bytes).value().empty());
}

TEST(Counters, a_file_that_is_cut_anywhere_is_an_error) {
  const auto bytes = file();
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(parse_counters(std::span(bytes).first(size))) << size;
  auto wrong = bytes;
  store(std::span(wrong), offsetof(kvm_stats_header, num_desc), ~std::uint32_t{0});
  EXPECT_FALSE(parse_counters(wrong));
  wrong = bytes;
  store(std::span(wrong), offsetof(kvm_stats_header, name_size), ~std::uint32_t{0});
  EXPECT_FALSE(parse_counters(wrong));
}

}  // namespace
}  // namespace vmm
