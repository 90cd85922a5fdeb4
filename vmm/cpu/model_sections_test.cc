// What a model file says beside its lists: policies of single features.
#include "vmm/cpu/model_sections.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "vmm/cpu/flatten.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/model_text.h"
#include "vmm/cpu/provenance.h"
#include "vmm/cpu/resolve.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

// Cascade Lake: 46 physical address bits; no TSX, nothing of AMD's.
HostGrant host() { return read_grant_fixture("cascadelake-linux-6.18"); }

std::string text_of(const std::string& root, const std::string& version,
                    const std::string& base = "haswell@4") {
  return fmt::format(
      "schema = 1\nname = \"mine\"\ntitle = \"A CPU for tests\"\ndefault = 1\n"
      "inherits = \"{}\"\n{}\n[[version]]\nnumber = 1\n{}",
      base, root, version);
}

class ModelSections : public testing::Test {
 protected:
  ~ModelSections() override { std::remove(path_.c_str()); }

  // The path of a file with the text, as a selection takes it.
  const std::string& file(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }

 private:
  std::string path_ = testing::TempDir() + fmt::format("sections{}.toml", getpid());
};

TEST_F(ModelSections, policies_mean_what_they_mean_in_a_selection) {
  const std::string& mine = file(
      text_of("[require]\nsimd = [\"avx2\", \"fma\"]\nextra = [\"sse4a\"]\n[optional]\npages = "
              "[\"pdpe1gb\", \"misalignsse\"]\n",
              ""));
  const std::string same =
      "haswell,require:avx2,require:fma,require:sse4a,optional:pdpe1gb,optional:misalignsse";
  for (const char* const more : {"", ",-sse4a", ",+sse4a,forbid:3dnow"})
    for (const CpuPolicy policy : {CpuPolicy::Strict, CpuPolicy::Mask, CpuPolicy::Force}) {
      const auto from_file = resolve_cpu(mine + more, policy, {}, host());
      const auto from_line = resolve_cpu(same + more, policy, {}, host());
      ASSERT_EQ(from_file.has_value(), from_line.has_value()) << more;
      if (!from_file) {
        EXPECT_THAT(from_file.error().text(),
                    HasSubstr("sse4a is required (group extra), and refused by host kernel"));
        continue;
      }
      EXPECT_EQ(from_file->cpuid, from_line->cpuid);
      EXPECT_EQ(from_file->missing, from_line->missing);
      EXPECT_EQ(from_file->model_digest, from_line->model_digest);
      EXPECT_THAT(from_file->notes, Contains(StartsWith("optional misalignsse is left out")));
    }
}

TEST_F(ModelSections, what_is_forbidden_is_off_and_refused_where_the_host_has_it) {
  const std::string& mine = file(text_of("[forbid]\nwide = [\"avx\"]\n", ""));
  const auto nowhere = resolve_cpu(mine, CpuPolicy::Strict, {}, HostGrant{});
  ASSERT_TRUE(nowhere) << nowhere.error().text();
  for (const char* const name : {"avx", "avx2", "fma"})
    EXPECT_FALSE(has_feature(nowhere->cpuid, name)) << name;
  const auto here = resolve_cpu(mine, CpuPolicy::Mask, {}, host());
  ASSERT_FALSE(here);
  EXPECT_EQ(here.error().kind(), ErrorKind::Host);
  EXPECT_THAT(here.error().text(), HasSubstr("avx is forbidden (group wide), and this host"));
  // The command line has the last word.
  EXPECT_TRUE(resolve_cpu(mine + ",-avx", CpuPolicy::Strict, {}, host()));
  EXPECT_TRUE(resolve_cpu(mine + ",+avx", CpuPolicy::Strict, {}, host()));
}

TEST_F(ModelSections, the_width_has_its_policy_too) {
  const std::string& mine = file(text_of("phys-bits-policy = \"host-exact\"\n", ""));
  const auto exact = resolve_cpu(mine, CpuPolicy::Force, {}, host());
  ASSERT_FALSE(exact);
  EXPECT_THAT(exact.error().text(), HasSubstr("39 physical address bits are wanted exactly"));
  EXPECT_TRUE(resolve_cpu(mine + ",phys-bits=46", CpuPolicy::Force, {}, host()));
  EXPECT_EQ(resolve_cpu(mine + ",phys-bits=52,phys-bits=at-most-host", CpuPolicy::Force, {}, host())
                ->cpuid.phys_bits(),
            46U);
}

TEST(PolicySections, a_version_goes_on_with_those_of_the_one_before) {
  const auto file = parse_cpu_model(
      text_of("[forbid]\nleaks = [\"vmx\", \"rtm\"]\n", "[version.require]\na = [\"avx2\"]\n") +
          "[[version]]\nnumber = 2\n[[version]]\nnumber = 3\nremove = [\"avx2\"]\n"
          "[version.require]\n[version.forbid]\nb = [\"avx512f\"]\n",
      "mine.toml");
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->versions[0].wishes.size(), 3U);
  EXPECT_EQ(file->versions[1].wishes, file->versions[0].wishes);
  ASSERT_EQ(file->versions[2].wishes.size(), 1U);
  EXPECT_EQ(file->versions[2].wishes[0],
            (CpuWish{feature_id("avx512f"), CpuOverride::Kind::Forbid, "b"}));
  // Forbidding VMX leaves the controls that an explicit +vmx brings.
  EXPECT_FALSE(file->versions[0].vmx.empty());
}

TEST_F(ModelSections, an_export_holds_the_policies) {
  const std::string mine =
      file(text_of("phys-bits-policy = \"at-most-host\"\n[require]\nsimd = [\"avx2\"]\n"
                   "[optional]\npages = [\"pdpe1gb\", \"vmx-tsc-scaling\"]\n[forbid]\nleaks = "
                   "[\"rtm\", \"svm\"]\n",
                   "")) +
      ",forbid:avx512f,optional:sse4a,require:vmx,-avx2,phys-bits=host-exact";
  const CpuModel model =
      *flatten(*parse_cpu_selection(mine), *resolve_whole(mine, HostGrant{}), "flat");
  std::vector<std::string> wishes;
  for (const CpuWish& wish : model.wishes)
    wishes.push_back(fmt::format("{} {} {}", section_of(wish.kind), wish.group,
                                 FeatureCatalog::get(wish.feature).name));
  EXPECT_THAT(wishes,
              testing::UnorderedElementsAre(
                  "optional pages pdpe1gb", "optional pages vmx-tsc-scaling", "forbid leaks rtm",
                  "forbid leaks svm", "forbid exported avx512f", "optional exported sse4a"));
  EXPECT_EQ(model.width_wish, CpuOverride::Kind::PhysExact);
  const auto again = parse_cpu_model(cpu_model_text(model, "test"), "flat.toml");
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->versions.front(), model) << cpu_model_text(model, "");
  const CpuModel base = *find_cpu_model("haswell@4");
  const auto changed = parse_cpu_model(cpu_model_text(model, base, "test"), "flat.toml");
  ASSERT_TRUE(changed) << changed.error().text() << cpu_model_text(model, base, "");
  EXPECT_EQ(changed->versions.front(), model);
}

TEST_F(ModelSections, why_names_the_group) {
  const std::string& mine =
      file(text_of("[require]\nsimd = [\"avx2\"]\n[forbid]\nleaks = [\"rtm\"]\n", ""));
  const CpuSelection selection{mine, {}};
  const CpuModelFile read = *find_cpu_model_file(mine);
  const ResolvedCpu cpu = *resolve_cpu(mine, CpuPolicy::Force, {}, HostGrant{});
  const CpuSource source{&cpu, &selection, &read, &read.versions.front()};
  EXPECT_EQ(origin_of_bit(feature_id("avx2"), source), "mine@1 require.simd");
  EXPECT_EQ(origin_of_bit(feature_id("rtm"), source), "mine@1 forbid.leaks");
  EXPECT_THAT(provenance_lines(source, {}), Contains(HasSubstr("mine@1 forbid.leaks")));
}

struct Bad {
  const char* root;
  const char* version;
  const char* place;
  const char* message;
  const char* hint;
};

void expect_bad(const Bad& bad) {
  const auto file = parse_cpu_model(text_of(bad.root, bad.version), "a.toml");
  ASSERT_FALSE(file) << bad.root << bad.version;
  EXPECT_EQ(file.error().kind(), ErrorKind::Usage);
  EXPECT_EQ(file.error().place(), bad.place) << file.error().text();
  EXPECT_THAT(file.error().text(), HasSubstr(bad.message));
  EXPECT_THAT(file.error().hint_text(), HasSubstr(bad.hint)) << bad.message;
}

TEST(PolicySections, errors_name_the_place_and_the_cure) {
  for (const Bad& bad : {
           Bad{"[requires]\n", "", "a.toml:6:2", "unknown key 'requires'", "'require'"},
           Bad{"require = [\"avx2\"]\n", "", "a.toml:6:11", "'require' is an array, not a table",
               ""},
           Bad{"[require]\nsimd = [\"avx22\"]\n", "", "a.toml:7:9", "unknown CPU feature 'avx22'",
               "avx2"},
           Bad{"[require]\nsimd = \"avx2\"\n", "", "a.toml:7:8", "'simd' is a string", ""},
           Bad{"[require]\nSimd = [\"avx2\"]\n", "", "a.toml:7:8", "a group is named by", ""},
           Bad{"[require]\na = [\"vmx\"]\n", "", "a.toml:7:6", "'vmx' is opt-in", ""},
           Bad{"[forbid]\na = [\"ht\"]\n", "", "a.toml:7:6", "'ht' comes from --smp", ""},
           Bad{"[require]\na = [\"avx2\"]\n[optional]\nb = [\"avx2\"]\n", "", "a.toml:9:6",
               "'avx2' is in [optional] b as well as in [require] a", "one group"},
           Bad{"[forbid]\na = [\"pdpe1gb\"]\n", "add = [\"pdpe1gb\"]\n", "a.toml:7:6",
               "'pdpe1gb' is in [forbid], and version 1 has it", "take 'pdpe1gb'"},
           Bad{"[forbid]\na = [\"avx512f\"]\n", "add = [\"avx512f\", \"avx512cd\"]\n", "a.toml:7:6",
               "'avx512f' is in [forbid], and 'avx512cd' of version 1 needs it", "take 'avx512cd'"},
           Bad{"[require]\na = [\"avx2\"]\n", "remove = [\"avx2\"]\n", "a.toml:7:6",
               "'avx2' is in [require], and version 1 removes it", ""},
           Bad{"[require]\na = [\"avx2\"]\n[forbid]\nb = [\"avx\"]\n", "", "a.toml:7:6",
               "'avx2' needs 'avx', which [forbid] takes away", ""},
           Bad{"phys-bits-policy = \"exact\"\n", "", "a.toml:6:20", "'exact', allowed are model",
               ""},
       })
    expect_bad(bad);
}

}  // namespace
}  // namespace vmm
