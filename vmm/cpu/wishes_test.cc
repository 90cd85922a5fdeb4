// What a selection wants of single features and of the width, whatever the policy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/features.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/selection.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr CpuPolicy kPolicies[] = {CpuPolicy::Strict, CpuPolicy::Mask, CpuPolicy::Force};

// 46 physical address bits; no TSX, nothing of AMD's.
HostGrant host() { return read_grant_fixture("cascadelake-linux-6.18"); }

Result<ResolvedCpu> resolve(std::string_view selection, CpuPolicy policy) {
  return resolve_cpu(selection, policy, {}, host());
}

TEST(Wishes, an_optional_feature_follows_the_host_under_every_policy) {
  for (const CpuPolicy policy : kPolicies) {
    const auto lacks = resolve("haswell,optional:sse4a,optional:pdpe1gb", policy);
    ASSERT_TRUE(lacks) << lacks.error().text();
    EXPECT_FALSE(has_feature(lacks->cpuid, "sse4a"));
    EXPECT_TRUE(has_feature(lacks->cpuid, "pdpe1gb"));
    EXPECT_THAT(lacks->missing, IsEmpty());
    EXPECT_THAT(lacks->notes, Contains(StartsWith("optional sse4a is left out: refused by ")));
    EXPECT_EQ(lacks->text, "haswell@4,optional:sse4a,optional:pdpe1gb");
    // The wish is the same on every host, and so is the model's digest.
    EXPECT_EQ(lacks->model_digest,
              resolve_cpu("haswell,+sse4a,+pdpe1gb", policy, {}, HostGrant{})->model_digest);
  }
}

TEST(Wishes, what_needs_an_optional_feature_is_judged_by_itself) {
  const auto cpu = resolve("haswell,optional:3dnow,+3dnowext", CpuPolicy::Strict);
  ASSERT_TRUE(cpu);
  ASSERT_EQ(cpu->missing.size(), 1U);
  EXPECT_EQ(cpu->missing[0].name, "3dnowext");
}

TEST(Wishes, a_required_feature_is_refused_under_mask_and_force) {
  EXPECT_EQ(resolve("haswell,require:sse4a", CpuPolicy::Strict)->missing.size(), 1U);
  for (const CpuPolicy policy : {CpuPolicy::Mask, CpuPolicy::Force}) {
    const auto lacks = resolve("haswell,+misalignsse,require:sse4a", policy);
    ASSERT_FALSE(lacks);
    EXPECT_EQ(lacks.error().kind(), ErrorKind::Host);
    EXPECT_THAT(lacks.error().text(), HasSubstr("sse4a is required, and refused by host kernel: "));
    EXPECT_TRUE(resolve("haswell,require:avx2", policy));
    // What needs a required feature is not required, and the last word holds.
    EXPECT_TRUE(resolve("haswell,require:sse4a,+sse4a", policy));
    EXPECT_TRUE(resolve("haswell,require:sse4a,-sse4a", policy));
  }
}

TEST(Wishes, a_host_with_a_forbidden_feature_is_refused) {
  for (const CpuPolicy policy : kPolicies) {
    const auto has = resolve("haswell,forbid:avx2", policy);
    ASSERT_FALSE(has);
    EXPECT_EQ(has.error().kind(), ErrorKind::Host);
    EXPECT_THAT(has.error().text(), HasSubstr("avx2 is forbidden, and this host gives it"));
    EXPECT_THAT(has.error().hint_text(), HasSubstr("-avx2"));
    EXPECT_TRUE(resolve("haswell,forbid:sse4a", policy));
  }
  EXPECT_FALSE(has_feature(
      resolve_cpu("haswell,forbid:avx2", CpuPolicy::Force, {}, HostGrant{})->cpuid, "avx2"));
}

TEST(Wishes, the_width_has_policies_of_its_own) {
  EXPECT_TRUE(resolve("haswell,phys-bits=46,phys-bits=host-exact", CpuPolicy::Strict));
  const auto other = resolve("haswell,phys-bits=host-exact", CpuPolicy::Force);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind(), ErrorKind::Host);
  EXPECT_THAT(other.error().text(),
              HasSubstr("39 physical address bits are wanted exactly, and this host has 46"));
  const auto width = [](std::string_view selection) {
    return resolve(selection, CpuPolicy::Strict)->cpuid.phys_bits();
  };
  EXPECT_EQ(width("haswell,phys-bits=52,phys-bits=at-most-host"), 46U);
  EXPECT_EQ(width("haswell,phys-bits=at-most-host"), 39U);
  EXPECT_EQ(width("haswell,phys-bits=52"), 52U);
  // No host is known, so that nothing is refused and nothing cut.
  EXPECT_EQ(resolve_cpu("haswell,phys-bits=52,phys-bits=at-most-host,phys-bits=host-exact",
                        CpuPolicy::Force, {}, HostGrant{})
                ->cpuid.phys_bits(),
            52U);
}

TEST(Wishes, are_written_as_they_were_read) {
  const char* const text =
      "haswell,require:avx2,optional:pdpe1gb,forbid:rtm,phys-bits=host-exact,phys-bits=at-most-"
      "host";
  const auto selection = parse_cpu_selection(text);
  ASSERT_TRUE(selection);
  std::string again = selection->model;
  for (const CpuOverride& change : selection->overrides) again += "," + change.text();
  EXPECT_EQ(again, text);
  EXPECT_THAT(parse_cpu_selection("haswell,require:avx22").error().hint_text(), HasSubstr("avx2"));
  EXPECT_THAT(parse_cpu_selection("haswell,forbid:ht").error().text(), HasSubstr("--smp"));
  EXPECT_THAT(parse_cpu_selection("haswell,phys-bits=host").error().text(),
              HasSubstr("host-exact or at-most-host"));
  EXPECT_THAT(
      resolve_cpu("haswell,require:vmx-ept", CpuPolicy::Force, {}, HostGrant{}).error().hint_text(),
      HasSubstr("add +vmx"));
}

}  // namespace
}  // namespace vmm
