// From a selection to a CPU: digests, leaf Dh, overrides, nesting. What each model is:
// models_test.cc.
#include "vmm/cpu/resolve.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/features.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ResolvedCpu resolve(std::string_view selection, const Topology& topology = {}) {
  auto cpu = resolve_cpu(selection, CpuPolicy::Strict, topology, generous_grant());
  EXPECT_TRUE(cpu) << cpu.error().text();
  return cpu ? *cpu : ResolvedCpu{};
}

TEST(Digest, depends_on_the_model_and_nothing_else) {
  const std::string digest = resolve("haswell").model_digest;
  EXPECT_EQ(digest.size(), 64U);
  EXPECT_EQ(resolve("Haswell@4").model_digest, digest);
  EXPECT_EQ(resolve("haswell", {8, 2, 2, 2}).model_digest, digest);
  for (const char* const host : {"cascadelake-linux-6.18", "milan-linux-6.18", "pvm-linux-6.18"})
    for (const CpuPolicy policy : {CpuPolicy::Strict, CpuPolicy::Mask, CpuPolicy::Force}) {
      const auto cpu = resolve_cpu("haswell", policy, {}, read_grant_fixture(host));
      ASSERT_TRUE(cpu);
      EXPECT_EQ(cpu->model_digest, digest) << host;
    }
  EXPECT_EQ(resolve("haswell,+avx").model_digest, digest);  // it has avx
  EXPECT_NE(resolve("haswell@3").model_digest, digest);
  EXPECT_NE(resolve("haswell,+pdpe1gb").model_digest, digest);
  EXPECT_NE(resolve("haswell,phys-bits=46").model_digest, digest);
  EXPECT_NE(resolve("haswell,+vmx").model_digest, digest);
}

TEST(Resolve, identity_is_spelt_as_the_manuals_do) {
  const ResolvedCpu intel = resolve("skylake-server");
  EXPECT_EQ(intel.cpuid.vendor(), "GenuineIntel");
  EXPECT_EQ(intel.cpuid.brand(), "Intel Xeon Processor (Skylake, IBRS, no TSX)");
  EXPECT_EQ(intel.cpuid.phys_bits(), 46U);
  EXPECT_EQ(intel.cpuid.get(0x80000008).eax, 0x302eU);
  const ResolvedCpu amd = resolve("epyc");
  EXPECT_EQ(amd.cpuid.vendor(), "AuthenticAMD");
  EXPECT_EQ(amd.cpuid.get(0x80000000).ebx, 0x68747541U);
  EXPECT_EQ(amd.cpuid.get(0x80000001).eax, 0x00800f12U);
}

TEST(Resolve, no_paravirtual_leaf_unless_asked) {
  EXPECT_EQ(resolve("haswell").cpuid.get(0x40000000), (CpuidRegs{0x40000000, 0, 0, 0}));
  const ResolvedCpu with = resolve("haswell,+kvmclock");
  EXPECT_EQ(with.cpuid.get(0x40000000), (CpuidRegs{0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d}));
  EXPECT_EQ(with.cpuid.get(0x40000001).eax, 8U);
  EXPECT_EQ(resolve("haswell,+kvmclock,-kvmclock").cpuid, resolve("haswell").cpuid);
}

TEST(Xsave, sizes_and_offsets_are_the_standard_ones) {
  const CpuidTable t = resolve("skylake-server").cpuid;
  EXPECT_EQ(t.get(0xd, 0), (CpuidRegs{0x2e7, 576, 2696, 0}));
  EXPECT_EQ(t.get(0xd, 1), (CpuidRegs{0xf, 576, 0, 0}));
  EXPECT_EQ(t.get(0xd, 2), (CpuidRegs{256, 576, 0, 0}));
  EXPECT_EQ(t.get(0xd, 5), (CpuidRegs{64, 1088, 0, 0}));
  EXPECT_EQ(t.get(0xd, 6), (CpuidRegs{512, 1152, 0, 0}));
  EXPECT_EQ(t.get(0xd, 7), (CpuidRegs{1024, 1664, 0, 0}));
  EXPECT_EQ(t.get(0xd, 9), (CpuidRegs{8, 2688, 0, 0}));
  EXPECT_EQ(t.find(0xd, 3), nullptr);
}

TEST(Xsave, components_follow_the_features) {
  EXPECT_EQ(resolve("haswell").cpuid.get(0xd, 0), (CpuidRegs{7, 576, 832, 0}));
  EXPECT_EQ(resolve("haswell,+mpx").cpuid.get(0xd, 0), (CpuidRegs{0x1f, 576, 1088, 0}));
  EXPECT_EQ(resolve("haswell,+mpx").cpuid.get(0xd, 4), (CpuidRegs{64, 1024, 0, 0}));
  EXPECT_EQ(resolve("haswell,-avx").cpuid.get(0xd, 0), (CpuidRegs{3, 576, 576, 0}));
  EXPECT_EQ(resolve("haswell,-xsave").cpuid.find(0xd, 0), nullptr);
  EXPECT_EQ(resolve("qemu64").cpuid.find(0xd, 0), nullptr);
  // AMD's silicon leaves no hole for MPX.
  EXPECT_EQ(resolve("epyc,+pku").cpuid.get(0xd, 9), (CpuidRegs{8, 2432, 0, 0}));
  const CpuidTable amx = resolve("skylake-server,+xfd,+amx-tile").cpuid;
  EXPECT_EQ(amx.get(0xd, 18), (CpuidRegs{8192, 2816, 6, 0}));
  EXPECT_EQ(amx.get(0xd, 0).ecx, 11008U);
}

TEST(Numbers, amx_tells_its_tiles_and_takes_them_along_when_it_goes) {
  const CpuidTable amx = resolve("sapphirerapids").cpuid;
  EXPECT_EQ(amx.get(0x1d, 0), (CpuidRegs{1, 0, 0, 0}));
  EXPECT_EQ(amx.get(0x1d, 1), (CpuidRegs{0x04002000, 0x00080040, 16, 0}));
  EXPECT_EQ(amx.get(0x1e, 0), (CpuidRegs{0, 0x4010, 0, 0}));
  const CpuidTable without = resolve("sapphirerapids,-amx-tile").cpuid;
  EXPECT_EQ(without.find(0x1d, 0), nullptr);
  EXPECT_EQ(without.find(0x1e, 0), nullptr);
  EXPECT_EQ(without.find(0xd, 18), nullptr);
  EXPECT_EQ(resolve("icelake-server").cpuid.find(0x1d, 1), nullptr);
}

TEST(Numbers, avx10_has_a_version_and_performance_monitoring_has_counters) {
  EXPECT_EQ(resolve("graniterapids").cpuid.get(0x24).ebx, 0x70001U);
  EXPECT_EQ(resolve("graniterapids").cpuid.get(0).eax, 0x24U);
  EXPECT_EQ(resolve("graniterapids,-avx10").cpuid.get(0x24).ebx, 0U);
  EXPECT_EQ(resolve("graniterapids@1").cpuid.find(0x24), nullptr);
  EXPECT_EQ(resolve("epyc-genoa").cpuid.get(0x80000022), (CpuidRegs{1, 6, 0, 0}));
  EXPECT_EQ(resolve("epyc-genoa,-perfmon-v2").cpuid.get(0x80000022), CpuidRegs{});
  EXPECT_EQ(resolve("haswell,+avx10-128").missing.size(), 1U);  // it needs avx10
}

TEST(Overrides, switch_features_and_widths) {
  const ResolvedCpu cpu = resolve("Haswell,+PDPE1GB,-rdrand,phys-bits=46");
  EXPECT_EQ(cpu.text, "haswell@4,+pdpe1gb,-rdrand,phys-bits=46");
  EXPECT_EQ(cpu.name, "haswell@4");
  EXPECT_TRUE(has_feature(cpu.cpuid, "pdpe1gb"));
  EXPECT_FALSE(has_feature(cpu.cpuid, "rdrand"));
  EXPECT_EQ(cpu.cpuid.phys_bits(), 46U);
}

TEST(Overrides, the_last_of_two_that_disagree_holds) {
  EXPECT_TRUE(has_feature(resolve("haswell,-rdrand,+rdrand").cpuid, "rdrand"));
  EXPECT_FALSE(has_feature(resolve("haswell,+rdrand,-rdrand").cpuid, "rdrand"));
}

TEST(Overrides, taking_away_closes_over_what_needs_it_and_says_so) {
  const ResolvedCpu cpu = resolve("skylake-server,-xsave");
  for (const char* name : {"xsave", "xsaves", "avx", "avx2", "fma", "avx512f", "avx512vl", "pku"})
    EXPECT_FALSE(has_feature(cpu.cpuid, name)) << name;
  EXPECT_TRUE(has_feature(cpu.cpuid, "sse4.2"));
  EXPECT_THAT(cpu.notes, Contains(HasSubstr("-xsave also takes away")));
  EXPECT_THAT(cpu.missing, IsEmpty());
}

TEST(Overrides, a_feature_without_its_prerequisite_is_refused) {
  const ResolvedCpu cpu = resolve("qemu64,+avx2");
  ASSERT_EQ(cpu.missing.size(), 1U);
  EXPECT_EQ(cpu.missing[0].name, "avx2");
  EXPECT_EQ(cpu.missing[0].refused_by, "dependency");
  EXPECT_THAT(cpu.missing[0].reason, HasSubstr("needs avx"));
  EXPECT_EQ(cpu.missing[0].remedy, "add +avx");
}

TEST(Overrides, la57_widens_linear_addresses) {
  EXPECT_EQ(resolve("skylake-server,+la57").cpuid.get(0x80000008).eax, 0x392eU);
}

TEST(Overrides, limits_grow_with_what_is_added) {
  const CpuidTable t = resolve("haswell,+lam,+invtsc").cpuid;
  EXPECT_EQ(t.get(7).eax, 1U);
  EXPECT_EQ(t.get(0x80000007).edx, 1U << 8);
  EXPECT_EQ(resolve("haswell,+intel-pt,+intel-pt-lip").cpuid.get(0).eax, 0x14U);
}

TEST(Nesting, is_off_for_every_bare_name) {
  for (const std::string& name : model_names()) {
    const ResolvedCpu cpu = resolve(name);
    EXPECT_FALSE(has_feature(cpu.cpuid, "vmx")) << name;
    EXPECT_FALSE(has_feature(cpu.cpuid, "svm")) << name;
    EXPECT_EQ(cpu.cpuid.find(0x8000000a), nullptr) << name;
    for (const CpuMsr& msr : cpu.msrs) EXPECT_NE(msr.index, 0x3aU) << name;
  }
}

TEST(Nesting, vmx_comes_with_feature_control_locked_on) {
  const ResolvedCpu cpu = resolve("haswell,+vmx");
  EXPECT_TRUE(has_feature(cpu.cpuid, "vmx"));
  EXPECT_EQ(cpu.msrs.back(), (CpuMsr{0x3a, 5})) << "what it locks comes before it";
}

TEST(Nesting, svm_comes_with_the_models_own_features) {
  const ResolvedCpu cpu = resolve("epyc,+svm");
  EXPECT_EQ(cpu.cpuid.get(0x8000000a), (CpuidRegs{1, 16, 0, 9}));  // npt, nrip-save
  EXPECT_EQ(resolve("qemu64,+svm").cpuid.get(0x8000000a), (CpuidRegs{1, 16, 0, 0}));
  EXPECT_EQ(resolve("epyc,+svm,-svm").cpuid, resolve("epyc").cpuid);
  EXPECT_FALSE(has_feature(resolve("epyc,+svm,-npt").cpuid, "npt"));
}

TEST(Msrs, arch_capabilities_are_written_only_with_their_cpuid_bit) {
  EXPECT_THAT(resolve("skylake-server,+arch-capabilities,+rdctl-no,+mds-no").msrs,
              ElementsAre(CpuMsr{0x10a, 0x21}));
  EXPECT_THAT(resolve("skylake-server,+rdctl-no").msrs, IsEmpty());
  // No bit of it is the host's.
  EXPECT_THAT(resolve("skylake-server,+arch-capabilities").msrs, ElementsAre(CpuMsr{0x10a, 0}));
}

TEST(Resolve, cet_brings_its_states_and_nobody_else_can) {
  const ResolvedCpu cpu = resolve("skylake-server,+shstk");
  EXPECT_EQ(cpu.cpuid.get(0xd, 1).ecx, 0x1800U);
  EXPECT_EQ(cpu.cpuid.get(0xd, 11), (CpuidRegs{16, 0, 1, 0}));
  EXPECT_EQ(cpu.cpuid.get(0xd, 12), (CpuidRegs{24, 0, 1, 0}));
  EXPECT_EQ(resolve("skylake-server,+shstk,-shstk").cpuid, resolve("skylake-server").cpuid);
  const auto by_hand = resolve_cpu("skylake-server,+xss-cet-u", CpuPolicy::Force, {}, HostGrant{});
  ASSERT_FALSE(by_hand);
  EXPECT_NE(by_hand.error().text().find("follows from shstk and ibt"), std::string::npos);
}

}  // namespace
}  // namespace vmm
