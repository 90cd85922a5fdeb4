// What each model is: words against the facts, digests, leaf Dh, overrides.
#include "vmm/cpu/resolve.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

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

// The words that QEMU's model of the same name and version asks for, before its accelerator adds or
// removes anything.
struct Golden {
  const char* model;
  std::array<std::uint32_t, 13> words;
};

struct Column {
  CpuidKey key;
  CpuidReg reg;
};

// clang-format off
constexpr std::array<Column, 13> kColumns = {{
    {{1, 0}, CpuidReg::Eax}, {{1, 0}, CpuidReg::Ecx}, {{1, 0}, CpuidReg::Edx}, {{6, 0}, CpuidReg::Eax},
    {{7, 0}, CpuidReg::Ebx}, {{7, 0}, CpuidReg::Ecx}, {{7, 0}, CpuidReg::Edx}, {{0xd, 1}, CpuidReg::Eax},
    {{0x80000001, 0}, CpuidReg::Ecx}, {{0x80000001, 0}, CpuidReg::Edx}, {{0x80000008, 0}, CpuidReg::Ebx},
    {{0, 0}, CpuidReg::Eax}, {{0x80000000, 0}, CpuidReg::Eax},
}};

constexpr std::array<Golden, 14> kGoldens = {{
    {"skylake-server@1", {0x00050654, 0x77fa3203, 0x078bfbff, 0x00000004, 0xd19f0fb9, 0x00000008, 0x00000000, 0x00000007, 0x00000121, 0x2c100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"skylake-server@2", {0x00050654, 0x77fa3203, 0x078bfbff, 0x00000004, 0xd11f0fb9, 0x00000008, 0x04000000, 0x00000007, 0x00000121, 0x2c100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"skylake-server@3", {0x00050654, 0x77fa3203, 0x078bfbff, 0x00000004, 0xd11f07a9, 0x00000008, 0x04000000, 0x00000007, 0x00000121, 0x2c100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"skylake-server@4", {0x00050654, 0x77fa3203, 0x078bfbff, 0x00000004, 0xd11f07a9, 0x00000008, 0x04000000, 0x00000007, 0x00000121, 0x2c100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"skylake-server@5", {0x00050654, 0x77fa3203, 0x078bfbff, 0x00000004, 0xd11f07a9, 0x00000008, 0x04000000, 0x0000000f, 0x00000121, 0x2c100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"haswell@1", {0x000306c4, 0x77fa3203, 0x078bfbff, 0x00000004, 0x00000fb9, 0x00000000, 0x00000000, 0x00000001, 0x00000021, 0x28100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"haswell@2", {0x000306c1, 0x77fa3203, 0x078bfbff, 0x00000004, 0x000007a9, 0x00000000, 0x00000000, 0x00000001, 0x00000021, 0x28100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"haswell@3", {0x000306c4, 0x77fa3203, 0x078bfbff, 0x00000004, 0x00000fb9, 0x00000000, 0x04000000, 0x00000001, 0x00000021, 0x28100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"haswell@4", {0x000306c1, 0x77fa3203, 0x078bfbff, 0x00000004, 0x000007a9, 0x00000000, 0x04000000, 0x00000001, 0x00000021, 0x28100800, 0x00000000, 0x0000000d, 0x80000008}},
    {"epyc@1", {0x00800f12, 0x76d8320b, 0x078bfbff, 0x00000004, 0x209c01a9, 0x00000000, 0x00000000, 0x00000007, 0x004003f5, 0x2e500800, 0x00000000, 0x0000000d, 0x8000001e}},
    {"epyc@2", {0x00800f12, 0x76d8320b, 0x078bfbff, 0x00000004, 0x209c01a9, 0x00000000, 0x00000000, 0x00000007, 0x004003f5, 0x2e500800, 0x00001000, 0x0000000d, 0x8000001e}},
    {"epyc@3", {0x00800f12, 0x76d8320b, 0x078bfbff, 0x00000004, 0x209c01a9, 0x00000000, 0x00000000, 0x0000000f, 0x00c003f5, 0x2e500800, 0x00001005, 0x0000000d, 0x8000001e}},
    {"epyc@4", {0x00800f12, 0x76d8320b, 0x078bfbff, 0x00000004, 0x209c01a9, 0x00000000, 0x00000000, 0x0000000f, 0x00c003f5, 0x2e500800, 0x00001005, 0x0000000d, 0x8000001e}},
    {"qemu64@1", {0x00060fb1, 0x00002001, 0x078bfbfd, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000005, 0x20100800, 0x00000000, 0x0000000d, 0x8000000a}},
}};
// clang-format on

class Goldens : public testing::TestWithParam<Golden> {};

TEST_P(Goldens, words_are_those_of_the_facts) {
  const Golden& golden = GetParam();
  const ResolvedCpu cpu = resolve(golden.model);
  EXPECT_EQ(cpu.name, golden.model);
  const bool amd = is_amd(cpu.cpuid);
  for (std::size_t i = 0; i < kColumns.size(); ++i) {
    const auto& [key, reg] = kColumns[i];
    std::uint32_t expected = golden.words[i];
    // The five differences that there are on purpose: hypervisor always, MONITOR never (KVM does
    // not give it), SVM only by +svm, the bits that mean "absent", and AMD's copies of 1.EDX.
    if (key.leaf == 1 && reg == CpuidReg::Ecx) expected = (expected | 0x80000000) & ~8U;
    if (key.leaf == 0x80000001 && reg == CpuidReg::Ecx) expected &= ~4U;
    if (key.leaf == 7 && reg == CpuidReg::Ebx && !amd) expected |= 0x2040;
    if (key.leaf == 0x80000001 && reg == CpuidReg::Edx && amd)
      expected |= golden.words[2] & 0x0183f3ff;
    EXPECT_EQ(cpu.cpuid.get(key.leaf, key.subleaf)[reg], expected)
        << cpuid_word_name(key, reg) << " of " << golden.model;
  }
  EXPECT_THAT(cpu.missing, IsEmpty());
  EXPECT_THAT(cpu.msrs, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, Goldens, testing::ValuesIn(kGoldens));

TEST(Goldens, every_version_there_is_has_a_golden) {
  std::size_t versions = 0;
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    ASSERT_TRUE(file);
    versions += file->versions.size();
  }
  EXPECT_EQ(versions, kGoldens.size());
}

// A model is immutable: these change only when the form of the digest does.
TEST(Digest, is_the_same_for_ever) {
  const std::pair<const char*, const char*> kDigests[] = {
      {"epyc@1", "f1ccb219f26ecb6f4cde90f144b82c928df134c23d5d43b8cfdfeb73aabf3628"},
      {"epyc@2", "03988ae899681972a9704ffd70fa2206b9009b8392ed1fca39deff5ac6c744b5"},
      {"epyc@3", "10e6b36a7472ab04fc08803dc4d2af84d96e9dbc13a0fda4b57c9649b9e929a9"},
      {"epyc@4", "d69e75532c14df5961b2cb174b3177a8edb9dc726607abbbfc76805913afa883"},
      {"haswell@1", "4a0ab7f1070fc56e799f24cbed0d09426f0ca3ec388cd6877a1bf65e5f44775a"},
      {"haswell@2", "600cd762f1eb6ddce8ada2146ec2f769e8ce9516818b233e0cb4813e1414e11d"},
      {"haswell@3", "5953d72c3624615e161b1d360dad5806aa85f39aa8b8525682300795a43664c4"},
      {"haswell@4", "44e43db480c2fc3ae8e7208934a6ed99407814ea5daa750270b8cfcec8ebf5c7"},
      {"qemu64@1", "882d8611ddd31ffabc8f62e60b1ebdc129e7421508d7c0e36a9b55eed84b3a38"},
      {"skylake-server@1", "a077e1313d16afcfb7771a9f6cf9bbd1e6eb9652118abd3bf18a6f1248c056c1"},
      {"skylake-server@2", "dd900e66690e5ba606167f7666e360ebd66203071df78ebbbbe6b9baf3472bf1"},
      {"skylake-server@3", "212473b1cc353f86a821f5372cdee40a4ffb2aba5e34ca7d8ecfd6866233e107"},
      {"skylake-server@4", "212473b1cc353f86a821f5372cdee40a4ffb2aba5e34ca7d8ecfd6866233e107"},
      {"skylake-server@5", "81cc690a244f7066aea023beea82289ec46daf12423bd272066d59fad88ed3f5"},
  };
  for (const auto& [model, digest] : kDigests)
    EXPECT_EQ(resolve(model).model_digest, digest) << model;
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
    if (name != "host") {
      EXPECT_THAT(cpu.msrs, IsEmpty()) << name;
    }
  }
}

TEST(Nesting, vmx_comes_with_feature_control_locked_on) {
  const ResolvedCpu cpu = resolve("haswell,+vmx");
  EXPECT_TRUE(has_feature(cpu.cpuid, "vmx"));
  EXPECT_THAT(cpu.msrs, ElementsAre(CpuMsr{0x3a, 5}));
  EXPECT_THAT(cpu.notes, Contains(HasSubstr("480h-491h")));
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

}  // namespace
}  // namespace vmm
