// What lint finds in the models as they are, and in CPUs made to be found.
#include "vmm/cpu/lint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::vector<LintFinding> lint(const std::string& selection) {
  const auto whole = resolve_whole(selection, HostGrant{});
  EXPECT_TRUE(whole) << selection;
  return whole ? lint_cpu(words_of(whole->cpu)) : std::vector<LintFinding>{};
}

// Errors and warnings as "rule: first words".
std::vector<std::string> faults(const std::string& selection) {
  std::vector<std::string> result;
  for (const LintFinding& finding : lint(selection))
    if (finding.level != LintFinding::Level::Note)
      result.push_back(
          finding.rule + ": " +
          finding.what.substr(0, std::min(finding.what.find(" ("), finding.what.find(','))));
  return result;
}

// QEMU's models with known faults, and silicon whose EPT does not reach its whole memory.
TEST(Lint, finds_the_known_faults_of_the_models_and_no_others) {
  std::vector<std::string> found;
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    ASSERT_TRUE(file) << name;
    for (const CpuModel& version : file->versions)
      for (const std::string& fault : faults(version.full_name()))
        found.push_back(version.full_name() + " " + fault);
  }
  EXPECT_THAT(found, ElementsAre("clearwaterforest@1 ept-width: 52 physical address bits",
                                 "denverton@1 vmx-pair: mpx without vmx-entry-load-bndcfgs",
                                 "denverton@1 vmx-pair: mpx without vmx-exit-clear-bndcfgs",
                                 "icelake-server@1 vmx-pair: rdseed without vmx-rdseed-exit",
                                 "icelake-server@2 vmx-pair: rdseed without vmx-rdseed-exit",
                                 "icelake-server@3 vmx-pair: rdseed without vmx-rdseed-exit",
                                 "sierraforest@1 ept-width: 52 physical address bits",
                                 "sierraforest@2 ept-width: 52 physical address bits",
                                 "snowridge@1 vmx-pair: mpx without vmx-entry-load-bndcfgs",
                                 "snowridge@1 vmx-pair: mpx without vmx-exit-clear-bndcfgs"));
}

TEST(Lint, flags_xsaves_that_was_added_to_a_skylake_without_its_control) {
  for (const char* const version : {"1", "2", "3"})
    EXPECT_THAT(faults(std::string("skylake-client@") + version + ",+xsaves"),
                ElementsAre("vmx-pair: xsaves without vmx-xsaves"))
        << version;
  EXPECT_THAT(faults("skylake-client@4"), IsEmpty());
  EXPECT_THAT(faults("skylake-client@3,+xsaves,+vmx,vmx.+xsaves"), IsEmpty());
  const auto findings = lint("skylake-client@3,+xsaves");
  EXPECT_THAT(findings[0].what, HasSubstr("its own guest gets #UD"));
  EXPECT_EQ(findings[0].remedy, "vmx.+xsaves, or -xsaves");
}

TEST(Lint, what_is_undefined_for_a_guests_guest_stands_apart) {
  const auto found = [](const char* text) {
    std::vector<std::string> features;
    const auto cpu = resolve_whole(text, HostGrant{})->cpu;
    for (const LintFinding& finding : undefined_under_vmx(words_of(cpu)))
      features.push_back(finding.what.substr(0, finding.what.find(' ')));
    return features;
  };
  EXPECT_THAT(found("skylake-client@3,+xsaves,+vmx"), ElementsAre("xsaves"));
  EXPECT_THAT(found("skylake-client@3,+xsaves,+vmx,vmx.+xsaves"), IsEmpty());
  EXPECT_THAT(found("icelake-server@1,+vmx"), IsEmpty()) << "rdseed is not intercepted, but runs";
}

TEST(Lint, a_model_says_at_its_start_what_a_guests_guest_will_miss) {
  const auto cpu = resolve_whole("skylake-client@3,+xsaves,+vmx", HostGrant{})->cpu;
  EXPECT_THAT(cpu.notes,
              Contains("skylake-client@3: xsaves without vmx-xsaves (MSR 48B[20]): a hypervisor "
                       "here has XSAVES, and its own guest gets #UD for it; try vmx.+xsaves, or "
                       "-xsaves"));
}

TEST(Lint, flags_a_control_without_its_instruction) {
  EXPECT_THAT(faults("skylake-client@3,+vmx,vmx.+xsaves"), ElementsAre("needs: vmx-xsaves"));
  EXPECT_THAT(faults("haswell,+avx512bw"), Contains("needs: avx512bw"));
}

TEST(Lint, flags_what_only_the_other_vendor_has) {
  EXPECT_THAT(faults("haswell,+sse4a"), ElementsAre(StartsWith("vendor: sse4a on GenuineIntel")));
  EXPECT_THAT(faults("epyc,+sgx"), ElementsAre(StartsWith("vendor: sgx on AuthenticAMD")));
}

TEST(Lint, flags_controls_that_only_the_true_msrs_can_show) {
  EXPECT_THAT(faults("haswell,+vmx,vmx.-true-ctls"),
              ElementsAre("vmx-true-controls: vmx-cr3-load-noexit",
                          "vmx-true-controls: vmx-cr3-store-noexit",
                          "vmx-true-controls: vmx-exit-nosave-debugctl",
                          "vmx-true-controls: vmx-entry-noload-debugctl"));
}

TEST(Lint, flags_addresses_that_ept_cannot_reach) {
  EXPECT_THAT(faults("skylake-server,phys-bits=52"),
              ElementsAre(StartsWith("ept-width: 52 physical address")));
}

TEST(Lint, flags_leaves_and_components_that_contradict) {
  CpuWords words = words_of(resolve_whole("haswell", HostGrant{})->cpu);
  words.cpuid.at(0).eax = 7;
  words.cpuid.at(0xd).eax &= ~4U;
  std::vector<std::string> rules;
  for (const LintFinding& finding : lint_cpu(words))
    if (finding.level == LintFinding::Level::Error) rules.push_back(finding.rule);
  EXPECT_THAT(rules, Contains("leaf-limit"));
  EXPECT_THAT(rules, Contains("xsave-components"));
}

TEST(Lint, flags_cet_and_its_controls_apart_from_each_other) {
  EXPECT_THAT(faults("skylake-server,+shstk"),
              ElementsAre("vmx-pair: shstk without vmx-entry-load-cet",
                          "vmx-pair: shstk without vmx-exit-load-cet"));
  EXPECT_THAT(faults("skylake-server,+ibt,+vmx,vmx.+entry-load-cet,vmx.+exit-load-cet"), IsEmpty());
  EXPECT_THAT(faults("skylake-server,+vmx,vmx.+exit-load-cet"),
              ElementsAre("needs: vmx-exit-load-cet"));
  EXPECT_THAT(faults("skylake-server,+shstk,-xsaves"), ElementsAre("needs: vmx-xsaves"))
      << "-xsaves takes shstk along";
  EXPECT_THAT(faults("haswell,+shstk"), Contains("needs: shstk"));
}

TEST(Lint, a_required_feature_should_not_stand_on_an_optional_one) {
  const auto cpu = resolve_whole("haswell,require:avx2,optional:avx", HostGrant{})->cpu;
  const auto findings = lint_sections(cpu);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].rule, "wishes");
  EXPECT_THAT(findings[0].what, HasSubstr("avx2 is required and needs avx"));
  EXPECT_EQ(findings[0].remedy, "require:avx, or optional:avx2");
}

TEST(Lint, lists_what_is_hidden_and_executes_all_the_same) {
  CpuidTable silicon;
  silicon.at(7).ebx = ~0U;
  const CpuWords words = words_of(resolve_whole("haswell", HostGrant{})->cpu);
  std::vector<std::string_view> names;
  for (const FeatureId id : hidden_not_removed(words, silicon))
    names.push_back(FeatureCatalog::get(id).name);
  EXPECT_THAT(names, ElementsAre("adx", "clflushopt", "clwb", "sha-ni"));
}

}  // namespace
}  // namespace vmm
