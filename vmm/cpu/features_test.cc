#include "vmm/cpu/features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace vmm {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;

std::vector<std::string> names_of(const std::vector<FeatureId>& ids) {
  std::vector<std::string> names;
  for (const FeatureId id : ids) names.emplace_back(FeatureCatalog::get(id).name);
  return names;
}

TEST(Features, every_bit_is_found_by_name_and_by_place) {
  const auto all = FeatureCatalog::all();
  EXPECT_EQ(all.size(), 420U);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(FeatureCatalog::find(all[i].name), i) << all[i].name;
    EXPECT_EQ(FeatureCatalog::at(all[i].place), i) << all[i].name;
    EXPECT_LT(all[i].place.bit, all[i].place.word.is_msr ? 64U : 32U) << all[i].name;
    EXPECT_FALSE(all[i].what.empty()) << all[i].name;
    EXPECT_LE(all[i].what.size(), 64U) << all[i].name;
  }
}

TEST(Features, the_first_kernel_is_known_of_most) {
  std::size_t known = 0;
  for (const Feature& feature : FeatureCatalog::all()) known += feature.kvm_since.empty() ? 0 : 1;
  EXPECT_GT(known, 360U);
  const auto feature = [](std::string_view name) { return FeatureCatalog::get(feature_id(name)); };
  EXPECT_EQ(kvm_since_text(feature("lam")), "since Linux 6.8");
  EXPECT_EQ(kvm_since_text(feature("clzero")), "since Linux 5.10 or before");
  EXPECT_EQ(kvm_since_text(feature("pks")), "up to Linux 6.18 never");
  EXPECT_EQ(kvm_since_text(feature("lkgs")), "");
}

TEST(Features, kernels_are_compared_by_number) {
  const Feature& lam = FeatureCatalog::get(feature_id("lam"));
  EXPECT_TRUE(is_too_old("6.1.0-37-cloud-amd64", lam));
  EXPECT_TRUE(is_too_old("5.15", lam));
  for (const char* kernel : {"6.8", "6.12.9", "6.18.5+", "7.0", "", "a custom one"})
    EXPECT_FALSE(is_too_old(kernel, lam)) << kernel;
  EXPECT_TRUE(is_too_old("4.19.0", FeatureCatalog::get(feature_id("clzero"))));
  EXPECT_FALSE(is_too_old("2.6.32", FeatureCatalog::get(feature_id("pks"))));
}

TEST(Features, places_are_those_of_the_manuals) {
  const std::pair<const char*, const char*> kFacts[] = {
      {"pni", "1.ECX[0]"},
      {"vmx", "1.ECX[5]"},
      {"xsave", "1.ECX[26]"},
      {"avx2", "7.0.EBX[5]"},
      {"la57", "7.0.ECX[16]"},
      {"arch-capabilities", "7.0.EDX[29]"},
      {"lam", "7.1.EAX[26]"},
      {"xsaves", "D.1.EAX[3]"},
      {"pdpe1gb", "80000001.EDX[26]"},
      {"svm", "80000001.ECX[2]"},
      {"npt", "8000000A.EDX[0]"},
      {"kvmclock", "40000001.EAX[3]"},
      {"rdctl-no", "MSR 10A[0]"},
      {"vmx-xsaves", "MSR 48B[20]"},
      {"vmx-eptad", "MSR 48C[21]"},
      {"vmx-invept-single", "MSR 48C[25]"},
      {"vmx-invept-single-context", "MSR 48C[41]"},  // QEMU's name for INVVPID of one context
      {"vmx-mbec", "MSR 48B[22]"},
      {"ibpb", "80000008.EBX[12]"},
      {"arat", "6.EAX[2]"},
      {"avx10-512", "24.0.EBX[18]"},
      {"shstk", "7.0.ECX[7]"},
      {"ibt", "7.0.EDX[20]"},
      {"xss-cet-u", "D.1.ECX[11]"},
      {"vmx-entry-load-cet", "MSR 490[20]"},
      {"vmx-exit-load-cet", "MSR 48F[28]"},
  };
  for (const auto& [name, place] : kFacts) {
    const auto id = FeatureCatalog::find(name);
    ASSERT_TRUE(id) << name;
    EXPECT_EQ(FeatureCatalog::get(*id).place.text(), place);
  }
}

TEST(Features, names_ignore_case_underscores_and_know_aliases) {
  EXPECT_EQ(FeatureCatalog::find("PDPE1GB"), FeatureCatalog::find("pdpe1gb"));
  EXPECT_EQ(FeatureCatalog::find("lahf_lm"), FeatureCatalog::find("lahf-lm"));
  EXPECT_EQ(FeatureCatalog::find("sse3"), FeatureCatalog::find("pni"));
  EXPECT_EQ(FeatureCatalog::find("SSE4_2"), FeatureCatalog::find("sse4.2"));
  EXPECT_EQ(FeatureCatalog::find("lzcnt"), FeatureCatalog::find("abm"));
  EXPECT_FALSE(FeatureCatalog::find(""));
  EXPECT_FALSE(FeatureCatalog::find("pdpe1g"));
  EXPECT_EQ(FeatureCatalog::nearest("pdpe1g"), "pdpe1gb");
  EXPECT_EQ(FeatureCatalog::nearest("avx512-f"), "avx512f");
}

TEST(Features, bits_without_a_name_have_none) {
  EXPECT_EQ(feature_name({0x80000001, 0}, CpuidReg::Edx, 26), "pdpe1gb");
  EXPECT_EQ(feature_name({7, 0}, CpuidReg::Ebx, 5), "avx2");
  EXPECT_EQ(feature_name({1, 0}, CpuidReg::Edx, 10), std::nullopt);          // reserved
  EXPECT_EQ(feature_name({0x80000001, 0}, CpuidReg::Edx, 0), std::nullopt);  // AMD's copy of fpu
  EXPECT_EQ(feature_name({0x12345, 9}, CpuidReg::Eax, 0), std::nullopt);
  EXPECT_EQ(feature_name({1, 0}, CpuidReg::Edx, 4711), std::nullopt);
}

TEST(Features, has_feature_reads_a_table) {
  CpuidTable table;
  table.at(7).ebx = 1U << 5;
  EXPECT_TRUE(has_feature(table, "avx2"));
  EXPECT_FALSE(has_feature(table, "avx"));
  EXPECT_FALSE(has_feature(table, "no-such-thing"));
  EXPECT_FALSE(has_feature(table, "rdctl-no"));  // an MSR bit is not in a CPUID table
}

TEST(Features, words_are_listed_once_and_hold_their_bits) {
  const auto words = FeatureCatalog::words();
  EXPECT_EQ(std::set<FeatureWord>(words.begin(), words.end()).size(), words.size());
  EXPECT_THAT(names_of(FeatureCatalog::in_word({false, 0xd, 1, CpuidReg::Eax})),
              ElementsAre("xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd"));
}

TEST(Features, dependants_follow_chains) {
  const auto names = names_of(FeatureCatalog::dependants(feature_id("xsave")));
  for (const char* name : {"avx", "avx2", "fma", "avx512f", "avx512bw", "xsaves", "pku", "mpx"})
    EXPECT_THAT(names, Contains(name));
  EXPECT_THAT(names, Not(Contains("xsave")));
  EXPECT_THAT(names, Not(Contains("sse4.2")));
  EXPECT_THAT(names_of(FeatureCatalog::dependants(feature_id("svm"))),
              testing::AllOf(Contains("npt"), Contains("vgif")));
  EXPECT_THAT(names_of(FeatureCatalog::dependants(feature_id("erms"))), testing::IsEmpty());
}

}  // namespace
}  // namespace vmm
