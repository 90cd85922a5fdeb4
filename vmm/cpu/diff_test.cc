// Two CPUs side by side: what is named, what is left out.
#include "vmm/cpu/diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vmm/cpu/cpu_model.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

CpuDiff diff_of(const std::string& left, const std::string& right) {
  const auto a = resolve_whole(left, HostGrant{});
  const auto b = resolve_whole(right, HostGrant{});
  EXPECT_TRUE(a) << left;
  EXPECT_TRUE(b) << right;
  return diff_cpus(*a, *b);
}

std::vector<std::string> names(const std::vector<FeaturePlace>& places) {
  std::vector<std::string> result;
  for (const FeaturePlace& place : places) result.push_back(bit_name(place));
  return result;
}

TEST(CpuDiff, of_a_model_and_itself_is_empty) {
  for (const std::string& name : builtin_cpu_models()) {
    EXPECT_TRUE(diff_of(name, name).empty()) << name;
    EXPECT_THAT(diff_lines(diff_of(name, name)), IsEmpty()) << name;
  }
}

TEST(CpuDiff, names_one_gigabyte_pages_between_haswell_and_skylake_server) {
  const CpuDiff diff = diff_of("haswell", "skylake-server");
  EXPECT_THAT(names(diff.right_only), Contains("pdpe1gb"));
  EXPECT_THAT(names(diff.left_only), IsEmpty());
  EXPECT_THAT(diff_lines(diff), Contains("  + 80000001.EDX  pdpe1gb"));
}

TEST(CpuDiff, names_exactly_the_xsaves_pair) {
  const CpuDiff diff = diff_of("skylake-client@3", "skylake-client@4");
  EXPECT_THAT(names(diff.right_only), ElementsAre("xsaves", "vmx-xsaves"));
  EXPECT_THAT(diff.left_only, IsEmpty());
  EXPECT_THAT(diff.values, IsEmpty());
}

TEST(CpuDiff, turns_round_with_its_sides) {
  const CpuDiff there = diff_of("epyc", "epyc-milan");
  const CpuDiff back = diff_of("epyc-milan", "epyc");
  EXPECT_EQ(there.left_only, back.right_only);
  EXPECT_EQ(there.right_only, back.left_only);
  EXPECT_EQ(there.values.size(), back.values.size());
}

TEST(CpuDiff, nesting_that_nobody_asked_for_is_no_difference) {
  const CpuDiff diff = diff_of("skylake-server", "epyc");
  EXPECT_THAT(names(diff.left_only), Not(Contains("vmx")));
  EXPECT_THAT(names(diff.right_only), Not(Contains("svm")));
  EXPECT_THAT(names(diff.left_only), Contains("vmx-ept")) << "but what it would bring is";
  EXPECT_THAT(names(diff.right_only), Contains("npt"));
}

TEST(CpuDiff, shows_widths_and_controls_that_are_fixed) {
  const CpuDiff diff = diff_of("haswell", "haswell,phys-bits=46,+vmx,vmx.hlt-exit=fixed");
  ASSERT_EQ(diff.values.size(), 2u);
  EXPECT_EQ(diff.values[0].what, "addresses");
  EXPECT_EQ(diff.values[0].right, "46 bits physical, 48 bits linear");
  EXPECT_EQ(diff.values[1], (CpuDiff::Value{"MSR 48Eh", "-", "80h"}));
}

TEST(CpuDiff, tells_wishes_apart) {
  const CpuDiff diff =
      diff_of("haswell,require:avx2", "haswell,phys-bits=host-exact,optional:rdseed");
  EXPECT_THAT(diff.values, ElementsAre(CpuDiff::Value{"wishes", "require:avx2",
                                                      "optional:rdseed phys-bits=host-exact"}));
  EXPECT_THAT(names(diff.right_only), ElementsAre("rdseed"));
}

TEST(CpuDiff, shows_words_and_msrs_without_names) {
  const std::string path = testing::TempDir() + "/numbers.toml";
  std::ofstream(path) << R"(schema = 1
name = "numbers"
title = "For tests"
default = 1
inherits = "haswell@4"
words = [{ leaf = 0x80000008, register = "eax", value = 0x2A0000, mask = 0xFF0000 },
         { leaf = 0xC, register = "ebx", value = 0x54 }]

[msr]
microcode-revision = 0x2000000000

[[version]]
number = 1
)";
  const CpuDiff diff = diff_of("haswell@4", path);
  std::remove(path.c_str());
  EXPECT_THAT(diff.values, ElementsAre(CpuDiff::Value{"MSR 8Bh", "-", "2000000000h"},
                                       CpuDiff::Value{"C.EBX", "00000000h", "00000054h"},
                                       CpuDiff::Value{"80000008.EAX", "00000000h", "002a0000h"}));
}

}  // namespace
}  // namespace vmm
