#include "vmm/core/mangled_name.h"

#include <gtest/gtest.h>

#include <iterator>
#include <random>
#include <string>

namespace vmm {
namespace {

TEST(MangledName, names_of_functions_lose_their_arguments) {
  EXPECT_EQ(readable_name("_Z5panicPKcz"), "panic");
  EXPECT_EQ(readable_name("_ZN3vmx4Vcpu3runEv"), "vmx::Vcpu::run");
  EXPECT_EQ(readable_name("_ZNK3vmx4Vcpu6is_runEv"), "vmx::Vcpu::is_run");
  EXPECT_EQ(readable_name("_ZL4haltv"), "halt");
  EXPECT_EQ(readable_name("_ZN12_GLOBAL__N_114stops_for_goodEv"),
            "(anonymous namespace)::stops_for_good");
  EXPECT_EQ(readable_name("_ZSt9terminatev"), "std::terminate");
  EXPECT_EQ(readable_name("_ZNSt9exceptionD2Ev"), "std::exception::~exception");
  EXPECT_EQ(readable_name("_ZN4Page3MapC1Em"), "Page::Map::Map");
  EXPECT_EQ(readable_name("_ZN4Page4walkEm.constprop.0"), "Page::walk.constprop.0");
  EXPECT_EQ(readable_name("_Z5panicPKcz.cold"), "panic.cold");
}

TEST(MangledName, names_of_rust_lose_their_hash) {
  EXPECT_EQ(readable_name("_ZN4core9panicking5panic17h0123456789abcdefE"),
            "core::panicking::panic");
  EXPECT_EQ(readable_name("_ZN60_$LT$kernel..mem..Frame$u20$as$u20$core..ops..drop..Drop$GT$4drop"
                          "17h0123456789abcdefE"),
            "<kernel::mem::Frame as core::ops::drop::Drop>::drop");
}

TEST(MangledName, everything_else_stays) {
  for (const char* symbol :
       {"", "_", "_Z", "main", "_start", "_ZTV4Page", "_ZZ4mainE1x", "_Z3maxIiET_S0_S0_",
        "_ZN4Page3mapIiEEvv", "_ZN4PageplERKS_", "_ZN", "_ZNE", "_ZNC1Ev", "_ZN1aC1C1C1Ev",
        "_ZN4Page", "_ZN99999999999999999999aE", "_ZN0E", "_Z9abc", "_RNvC7mycrate3foo"})
    EXPECT_EQ(readable_name(symbol), symbol);
}

// Symbols come from images that anyone may have made.
TEST(MangledName, no_name_grows_without_end) {
  const char* const kParts[] = {"_Z", "N",  "E", "St", "C1", "D2", "1a", "L", "12_GLOBAL__N_1",
                                "I",  "..", "9", "K"};
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string symbol = "_ZN";
    for (auto parts = random() % 40; parts > 0; --parts)
      symbol += kParts[random() % std::size(kParts)];
    EXPECT_LE(readable_name(symbol).size(), 8 * symbol.size()) << symbol;
  }
}

}  // namespace
}  // namespace vmm
