#include "vmm/core/quirks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <set>

namespace vmm {
namespace {

using testing::ElementsAre;

TEST(Quirks, each_has_one_bit_of_its_own_and_a_name) {
  std::set<std::uint32_t> bits;
  for (const KvmQuirk& quirk : kvm_quirks()) {
    EXPECT_EQ(std::popcount(quirk.bit), 1) << quirk.name;
    EXPECT_TRUE(bits.insert(quirk.bit).second) << quirk.name;
    EXPECT_EQ(find_quirk(quirk.name), &quirk);
    EXPECT_FALSE(quirk.with_it.empty()) << quirk.name;
  }
}

TEST(Quirks, are_found_as_kvm_spells_them_too) {
  ASSERT_NE(find_quirk("STUFF_FEATURE_MSRS"), nullptr);
  EXPECT_EQ(find_quirk("STUFF_FEATURE_MSRS")->bit, 0x100U);
  EXPECT_EQ(find_quirk("stuff-feature-msr"), nullptr);
}

TEST(Quirks, a_guest_is_without_those_that_mislead_it) {
  EXPECT_THAT(quirk_names(usual_quirks_off()),
              ElementsAre("lapic-mmio-hole", "out-7e-inc-rip", "fix-hypercall-insn",
                          "mwait-never-ud-faults", "stuff-feature-msrs"));
  EXPECT_THAT(quirk_constants(0x104), ElementsAre("LAPIC_MMIO_HOLE", "STUFF_FEATURE_MSRS"));
  EXPECT_THAT(quirk_names(1U << 30), ElementsAre("bit 30"));
}

}  // namespace
}  // namespace vmm
