#include "vmm/cpu/nested.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/host_grant_fake.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

// What kvm_intel offers in the vmx lab.
HostGrant vmx_host() {
  HostGrant host;
  host.backend = KvmBackend::Vmx;
  host.feature_msrs = {{0x10a, 0},
                       {0x480, 0x00d8100011e57ed0},
                       {0x485, 0x20000165},
                       {0x48b, 0x02137bff00000000},
                       {0x48c, 0x00000f0106334041},
                       {0x48e, 0xf7f9fffe04006172},
                       {0x491, 1}};
  return host;
}

HostGrant svm_host(std::uint32_t features) {
  HostGrant host;
  host.backend = KvmBackend::Svm;
  host.supported.at(0x80000001).ecx = 1U << 2;
  host.supported.at(0x8000000a) = {1, 8, 0, features};
  return host;
}

TEST(NestedWords, are_the_vmx_msrs_that_kvm_knows) {
  const auto words = nested_words(vmx_host());
  ASSERT_THAT(words, SizeIs(6));
  EXPECT_EQ(words[0], (NestedWord{"IA32_VMX_BASIC", "480h", 0x00d8100011e57ed0, 16}));
  EXPECT_EQ(words[5], (NestedWord{"IA32_VMX_VMFUNC", "491h", 1, 16}));
}

TEST(NestedWords, stand_in_two_columns_with_all_their_digits) {
  const auto lines = nested_lines(vmx_host());
  EXPECT_THAT(lines, SizeIs(1 + 3));
  EXPECT_THAT(lines,
              Contains(testing::StartsWith("  480h  BASIC               00d8100011e57ed0h")));
  EXPECT_THAT(lines, Contains(HasSubstr("  491h  VMFUNC              0000000000000001h")));
  EXPECT_THAT(lines, Each(SizeIs(testing::Le(100U))));
}

TEST(NestedWords, of_svm_are_the_leaf_and_its_features_by_name) {
  EXPECT_THAT(nested_words(svm_host(0x9)),
              ElementsAre(NestedWord{"8000000Ah.EAX", "8000000Ah.EAX", 1, 8},
                          NestedWord{"8000000Ah.EBX", "8000000Ah.EBX", 8, 8},
                          NestedWord{"8000000Ah.EDX", "8000000Ah.EDX", 9, 8}));
  EXPECT_THAT(nested_lines(svm_host(0x100009)), ElementsAre("SVM for guests (CPUID 8000000Ah)",
                                                            "  revision 1, 8 ASIDs, EDX 00100009h",
                                                            "  features: npt, nrip-save, bit 20"));
}

TEST(NestedWords, fit_a_hundred_columns_with_every_svm_feature) {
  const auto lines = nested_lines(svm_host(~0U));
  EXPECT_THAT(lines, Each(SizeIs(testing::Le(100U))));
  EXPECT_THAT(lines, Contains(HasSubstr("svme-addr-chk")));
  EXPECT_THAT(nested_lines(svm_host(0)), Contains("  features: none"));
}

// Leaf 8000000Ah of a host whose KVM has nesting off is all zero, and SVM is not offered.
TEST(NestedWords, are_absent_where_guests_get_no_virtualization) {
  EXPECT_THAT(nested_words(read_grant_fixture("milan-linux-6.18")), IsEmpty());
  EXPECT_THAT(nested_lines(read_grant_fixture("milan-linux-6.18")), IsEmpty());
  EXPECT_THAT(nested_words(read_grant_fixture("pvm-linux-6.18")), IsEmpty());
  EXPECT_THAT(nested_lines(read_grant_fixture("cascadelake-linux-6.18")), IsEmpty());
  EXPECT_THAT(nested_words(generous_grant()), Not(IsEmpty()));
}

}  // namespace
}  // namespace vmm
