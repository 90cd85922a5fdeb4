// What several hosts have in common, and that each of them gives it.
#include "vmm/cpu/baseline.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/model_text.h"
#include "vmm/cpu/recorded_hosts_fake.h"
#include "vmm/cpu/refusal.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<BaselineHost> hosts(const std::vector<std::string>& names) {
  std::vector<BaselineHost> result;
  for (const std::string& name : names) result.push_back({name, recorded_host(name)});
  return result;
}

Baseline baseline_of(const std::vector<BaselineHost>& of) {
  const auto baseline = find_baseline(of);
  EXPECT_TRUE(baseline) << baseline.error().text();
  return baseline ? *baseline : Baseline{};
}

bool has(const Baseline& baseline, std::string_view feature) {
  const auto& list = baseline.model.features;
  return std::find(list.begin(), list.end(), feature_id(feature)) != list.end();
}

// Every host gives the whole of it, and our own parser reads it as it was meant.
void expect_good(const std::vector<BaselineHost>& of) {
  const Baseline baseline = baseline_of(of);
  const std::string text = baseline_text(baseline, of);
  const auto file = parse_cpu_model(text, "baseline.toml");
  ASSERT_TRUE(file) << file.error().text() << "\n" << text;
  ASSERT_EQ(file->versions.front(), baseline.model) << text;
  CpuWords words = model_words(baseline.model);
  derive(words, {});
  for (const BaselineHost& host : of)
    EXPECT_THAT(find_refusals(words, host.grant, false), IsEmpty()) << host.name;
}

TEST(ModelText, every_shipped_version_reads_back_equal) {
  for (const std::string& name : builtin_cpu_models()) {
    const auto original = builtin_cpu_model(name);
    ASSERT_TRUE(original);
    for (const CpuModel& model : original->versions) {
      const auto file = parse_cpu_model(cpu_model_text(model, "one\n\ntwo"), "a.toml");
      ASSERT_TRUE(file) << file.error().text();
      EXPECT_EQ(file->versions.front(), model) << model.full_name();
    }
  }
}

TEST(Baseline, all_recorded_hosts_of_a_vendor_give_theirs) {
  std::vector<std::string> intel;
  std::vector<std::string> amd;
  for (const std::string& name : recorded_hosts())
    (recorded_host(name).backend == KvmBackend::Vmx ? intel : amd).push_back(name);
  EXPECT_EQ(intel.size(), 12U);
  EXPECT_EQ(amd.size(), 6U);
  expect_good(hosts(intel));
  expect_good(hosts(amd));
  for (const auto* names : {&intel, &amd})
    for (const std::string& one : *names)
      for (const std::string& other : *names)
        if (one < other) expect_good(hosts({one, other}));
}

TEST(Baseline, of_one_host_twice_it_grants_what_the_host_grants) {
  for (const std::string& name : recorded_hosts()) {
    const Baseline once = baseline_of(hosts({name}));
    const Baseline twice = baseline_of(hosts({name, name}));
    EXPECT_EQ(once.model.features, twice.model.features);
    EXPECT_EQ(once.given, twice.given);
    EXPECT_THAT(twice.gaps, IsEmpty()) << name;
    // Every named feature of KVM's own table, but for those that no model file holds.
    const CpuWords supported{recorded_host(name).supported, {}};
    const bool amd = is_amd(supported.cpuid);
    for (const FeatureWord& word : FeatureCatalog::words())
      for (const FeatureId id : FeatureCatalog::in_word(word)) {
        const std::string_view feature = FeatureCatalog::get(id).name;
        if (!supported.has(id) || feature == "hypervisor" || feature == "fdp-excptn-only" ||
            feature == "zero-fcs-fds" || feature == "ht" || feature == "cmp-legacy" ||
            (feature == "topoext" && !amd) || feature.starts_with("xss-"))
          continue;
        EXPECT_TRUE(has(twice, feature)) << name << " " << feature;
      }
  }
}

TEST(Baseline, three_generations_have_the_oldest_in_common) {
  const std::vector<BaselineHost> of =
      hosts({"sapphirerapids-linux-6.18", "cascadelake-linux-5.10", "graniterapids-linux-6.18"});
  const Baseline baseline = baseline_of(of);
  EXPECT_EQ(baseline.model.model, 85U);
  EXPECT_EQ(baseline.model.stepping, 7U);
  EXPECT_EQ(baseline.model.phys_bits, 46U);
  EXPECT_EQ(baseline.model.virt_bits, 48U);
  EXPECT_TRUE(has(baseline, "avx512vnni"));
  EXPECT_FALSE(has(baseline, "la57"));
  EXPECT_FALSE(has(baseline, "mpx"));
  EXPECT_FALSE(has(baseline, "topoext"));  // AMD's
  EXPECT_THAT(baseline.given, Contains("cascadelake-server@5"));
  EXPECT_THAT(baseline.given, Not(Contains("icelake-server@6")));
  for (const BaselineGap& gap : baseline.gaps)
    if (gap.feature == feature_id("mpx")) {
      EXPECT_THAT(gap.lacking, testing::ElementsAre(of[0].name, of[2].name));
    }
  EXPECT_THAT(baseline_text(baseline, of),
              HasSubstr("#   cascadelake-linux-5.10: vmx, Linux 5.10"));
}

TEST(Baseline, what_needs_a_missing_feature_is_missing_too) {
  std::vector<BaselineHost> of = hosts({"icelake-linux-6.1", "icelake-linux-6.1"});
  of[1].grant.supported.at(1).ecx &= ~(1U << 26);  // xsave
  const Baseline baseline = baseline_of(of);
  for (const char* const name : {"xsave", "avx", "avx2", "avx512f", "vaes", "fma"})
    EXPECT_FALSE(has(baseline, name)) << name;
  EXPECT_TRUE(has(baseline, "aes"));
  expect_good(of);
}

TEST(Baseline, features_for_nested_guests_stand_apart) {
  std::vector<BaselineHost> of = hosts({"milan-linux-6.1", "genoa-linux-6.1"});
  for (BaselineHost& host : of) {
    host.grant.supported.at(0x80000001).ecx |= 1U << 2;
    host.grant.supported.at(0x8000000a).edx = 9;  // npt, nrip-save
  }
  of[1].grant.supported.at(0x8000000a).edx = 1;
  const Baseline baseline = baseline_of(of);
  EXPECT_FALSE(has(baseline, "svm"));
  EXPECT_THAT(baseline.model.svm, testing::ElementsAre(feature_id("npt")));
  expect_good(of);
}

TEST(Baseline, controls_for_nested_guests_are_those_of_all_hosts) {
  std::vector<BaselineHost> of = hosts({"cascadelake-linux-6.1", "icelake-linux-6.1"});
  for (BaselineHost& host : of) {
    host.grant.supported.at(1).ecx |= 1U << 5;
    for (const auto& [index, value] : bochs_vmx_msrs()) host.grant.feature_msrs[index] = value;
  }
  of[1].grant.feature_msrs[0x48b] &= ~(1ULL << (32 + 5));  // VPID
  of[0].grant.feature_msrs[0x48e] |= 1ULL << 7;            // HLT exiting is not to be cleared
  const Baseline baseline = baseline_of(of);
  const auto listed = [](const std::vector<FeatureId>& list, const char* name) {
    return std::find(list.begin(), list.end(), feature_id(name)) != list.end();
  };
  EXPECT_FALSE(has(baseline, "vmx"));
  EXPECT_TRUE(listed(baseline.model.vmx, "vmx-ept"));
  EXPECT_FALSE(listed(baseline.model.vmx, "vmx-vpid"));
  EXPECT_FALSE(listed(baseline.model.vmx, "vmx-invvpid"));  // needs it
  EXPECT_THAT(baseline.model.vmx_fixed, testing::ElementsAre(feature_id("vmx-hlt-exit")));
  expect_good(of);
}

TEST(Baseline, of_two_vendors_there_is_none) {
  const auto baseline = find_baseline(hosts({"icelake-linux-6.1", "milan-linux-6.1"}));
  ASSERT_FALSE(baseline);
  EXPECT_EQ(baseline.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(
      baseline.error().text(),
      HasSubstr("milan-linux-6.1: a host of AuthenticAMD, and icelake-linux-6.1 is one of"));
  EXPECT_FALSE(find_baseline({}));
}

}  // namespace
}  // namespace vmm
