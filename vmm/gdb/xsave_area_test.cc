#include "vmm/gdb/xsave_area.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "vmm/base/bytes.h"
#include "vmm/gdb/registers_fake.h"

namespace vmm::gdb {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kX87Bit = 1, kSseBit = 2, kAvxBit = 4;

// Old bytes everywhere, and a header that says what of them counts.
Bytes stale_area(std::uint64_t components) {
  Bytes area(4096, 0xcc);
  std::fill(area.begin() + 512, area.begin() + 576, std::uint8_t{0});
  store(std::span(area), 512, components);
  return area;
}
std::uint64_t components_of(const Bytes& area) { return load<std::uint64_t>(area, 512); }
std::uint64_t word(const Bytes& area, unsigned component, std::uint32_t offset, std::size_t size) {
  const auto bytes =
      xsave_read(area, XsaveLayout::of(full_cpuid()), component, offset, size).value();
  return load_uint(std::span(bytes).first(size));
}
bool write(Bytes& area, unsigned component, std::uint32_t offset, const Bytes& bytes) {
  return xsave_write(area, XsaveLayout::of(full_cpuid()), component, offset, bytes);
}

TEST(XsaveArea, a_component_that_is_not_in_use_reads_as_its_initial_state) {
  const Bytes area = stale_area(0);
  EXPECT_EQ(word(area, kX87, legacy::kFcw, 2), 0x37fU);
  EXPECT_EQ(word(area, kX87, legacy::kFsw, 2), 0U);
  EXPECT_EQ(word(area, kX87, legacy::kSt0, 8), 0U);
  EXPECT_EQ(xsave_tag_word(area), 0xffff);
  EXPECT_EQ(word(area, kSse, legacy::kXmm0, 8), 0U);
  EXPECT_EQ(xsave_mxcsr(area), 0x1f80U);
  for (const unsigned component : {kAvx, kOpmask, kZmmHi256, kHi16Zmm})
    EXPECT_EQ(word(area, component, 0, 8), 0U) << component;
}

TEST(XsaveArea, a_component_in_use_reads_as_its_bytes) {
  const Bytes area = stale_area(0xe7);
  EXPECT_EQ(word(area, kX87, legacy::kFcw, 2), 0xccccU);
  EXPECT_EQ(xsave_mxcsr(area), 0xccccccccU);
  for (const unsigned component : {kSse, kAvx, kOpmask, kZmmHi256, kHi16Zmm})
    EXPECT_EQ(word(area, component, 0, 8), 0xccccccccccccccccU) << component;
}

TEST(XsaveArea, the_first_write_puts_a_component_in_use_and_the_rest_of_it_at_its_initial_state) {
  Bytes area = stale_area(0);
  ASSERT_TRUE(write(area, kX87, legacy::kSt0, Bytes(10, 1)));
  EXPECT_EQ(components_of(area), kX87Bit);
  EXPECT_EQ(word(area, kX87, legacy::kSt0, 8), 0x0101010101010101U);
  EXPECT_EQ(word(area, kX87, legacy::kSt0 + 16, 8), 0U);
  EXPECT_EQ(word(area, kX87, legacy::kFcw, 2), 0x37fU);
  EXPECT_EQ(xsave_tag_word(area), 0xffff);

  ASSERT_TRUE(write(area, kSse, legacy::kXmm0 + 16, Bytes(16, 2)));
  EXPECT_EQ(components_of(area), kX87Bit | kSseBit);
  EXPECT_EQ(word(area, kSse, legacy::kXmm0, 8), 0U);
  EXPECT_EQ(word(area, kSse, legacy::kXmm0 + 16, 8), 0x0202020202020202U);
  EXPECT_EQ(xsave_mxcsr(area), 0x1f80U);

  ASSERT_TRUE(write(area, kHi16Zmm, 64, Bytes(16, 3)));
  EXPECT_EQ(components_of(area), kX87Bit | kSseBit | 1u << kHi16Zmm);
  EXPECT_EQ(word(area, kHi16Zmm, 0, 8), 0U);
  EXPECT_EQ(word(area, kHi16Zmm, 64, 8), 0x0303030303030303U);
  EXPECT_EQ(area[2688], 0xcc);  // what follows the component stays
}

TEST(XsaveArea, mxcsr_is_there_with_sse_or_with_avx) {
  Bytes area = stale_area(kAvxBit);
  EXPECT_EQ(xsave_mxcsr(area), 0xccccccccU);
  ASSERT_TRUE(write(area, kSse, legacy::kXmm0, Bytes(16, 1)));
  EXPECT_EQ(xsave_mxcsr(area), 0xccccccccU);

  area = stale_area(0);
  ASSERT_TRUE(write(area, kAvx, 0, Bytes(16, 1)));
  EXPECT_EQ(xsave_mxcsr(area), 0x1f80U);

  area = stale_area(0);
  ASSERT_TRUE(xsave_set_mxcsr(area, 0x1fa0));
  EXPECT_EQ(xsave_mxcsr(area), 0x1fa0U);
  EXPECT_EQ(components_of(area), kSseBit);
  EXPECT_EQ(word(area, kSse, legacy::kXmm0, 8), 0U);
}

TEST(XsaveArea, tags_are_told_from_the_contents) {
  Bytes area = xsave_area(576, kX87Bit);
  const auto put = [&area](unsigned st, std::uint16_t exponent, std::uint64_t significand) {
    store(std::span(area), legacy::kSt0 + 16 * st, significand);
    store(std::span(area), legacy::kSt0 + 16 * st + 8, exponent);
  };
  EXPECT_EQ(xsave_tag_word(area), 0xffff);
  store(std::span(area), legacy::kFtw, std::uint8_t{0xff});
  put(0, 0x3fff, 1ull << 63);  // 1.0: valid, 0
  put(1, 0x8000, 0);           // -0.0: zero, 1
  put(2, 0x7fff, 1ull << 63);  // infinity: special, 2
  put(3, 0, 1);                // denormal
  put(4, 0x3fff, 1);           // unnormal: its integer bit is 0
  put(5, 0x3fff, 1ull << 63);
  EXPECT_EQ(xsave_tag_word(area), 0x52a4);
  // TOP = 6: ST0 is the physical register 6, ST2 is register 0.
  store(std::span(area), legacy::kFsw, static_cast<std::uint16_t>(6 << 11));
  EXPECT_EQ(xsave_tag_word(area), 0x452a);
  store(std::span(area), legacy::kFtw, std::uint8_t{0x40});
  EXPECT_EQ(xsave_tag_word(area), 0xcfff);
}

TEST(XsaveArea, a_written_tag_word_says_which_registers_are_empty) {
  Bytes area = stale_area(0);
  ASSERT_TRUE(xsave_set_tag_word(area, 0xcffd));
  EXPECT_EQ(area[legacy::kFtw], 0x41);
  EXPECT_EQ(components_of(area), kX87Bit);
  EXPECT_EQ(word(area, kX87, legacy::kFcw, 2), 0x37fU);
  EXPECT_EQ(xsave_tag_word(area), 0xdffd);  // both hold zero now
}

TEST(XsaveArea, a_cpuid_that_puts_components_anywhere_never_leads_out_of_the_area) {
  CpuidTable cpuid = full_cpuid();
  cpuid.at(0xd, 2) = {.eax = 0xffffffff, .ebx = 0xffffff00};
  cpuid.at(0xd, 5) = {.eax = 64, .ebx = 500};  // over the header
  cpuid.at(0xd, 6) = {.eax = 16, .ebx = 1152};
  const XsaveLayout layout = XsaveLayout::of(cpuid);
  Bytes area = stale_area(0xe7);
  const Bytes before = area;
  for (const unsigned component : {kAvx, kOpmask, kZmmHi256}) {
    EXPECT_FALSE(xsave_read(area, layout, component, 0, 32)) << component;
    EXPECT_FALSE(xsave_write(area, layout, component, 0, Bytes(32, 1))) << component;
  }
  EXPECT_FALSE(xsave_read(area, layout, 8, 0, 1));
  EXPECT_FALSE(xsave_read(area, layout, kHi16Zmm, 0xffffffff, 16));
  EXPECT_EQ(area, before);
}

}  // namespace
}  // namespace vmm::gdb
