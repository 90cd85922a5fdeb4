// A model file that says what is different from a built-in model, and its text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/model_text.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

const char* const kHead = R"(schema = 1
name = "mine"
title = "A CPU for tests"
default = 1
inherits = "haswell@4"
)";
const char* const kVersion = R"(
[[version]]
number = 1
phys-bits = 40
add = ["pdpe1gb"]
remove = ["avx2"]
vmx-add = ["vmx-tsc-scaling"]
)";

CpuModel base() { return *find_cpu_model("haswell@4"); }

bool has(const std::vector<FeatureId>& ids, std::string_view name) {
  return std::ranges::find(ids, feature_id(name)) != ids.end();
}

TEST(Inherits, what_is_not_said_is_the_bases) {
  const auto file = parse_cpu_model(std::string(kHead) + kVersion, "mine.toml");
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->inherits, "haswell@4");
  const CpuModel& model = file->versions.front();
  EXPECT_EQ(model.full_name(), "mine@1");
  EXPECT_EQ(model.title, "A CPU for tests");
  EXPECT_EQ(model.vendor, "GenuineIntel");
  EXPECT_EQ(model.brand, base().brand);
  EXPECT_EQ(model.family, 6U);
  EXPECT_EQ(model.phys_bits, 40U);
  EXPECT_EQ(model.caches, base().caches);
  EXPECT_EQ(model.alias, "");
  EXPECT_TRUE(has(model.features, "pdpe1gb"));
  EXPECT_FALSE(has(model.features, "avx2"));
  EXPECT_TRUE(has(model.features, "avx"));
  EXPECT_TRUE(has(model.vmx, "vmx-tsc-scaling"));
  EXPECT_TRUE(has(model.vmx, "vmx-ept"));
}

TEST(Inherits, later_versions_go_on_from_the_first) {
  const auto file = parse_cpu_model(
      std::string(kHead) + kVersion + "[[version]]\nnumber = 2\nadd = [\"avx2\"]\n", "mine.toml");
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_TRUE(has(file->versions[1].features, "pdpe1gb"));
  EXPECT_TRUE(has(file->versions[1].features, "avx2"));
}

struct BadBase {
  const char* from;
  const char* to;
  const char* place;
  const char* message;
  const char* hint;
};

TEST(Inherits, errors_name_the_place_and_the_cure) {
  for (const BadBase& bad : {
           BadBase{"haswell@4", "haswel@4", "a.toml:5:12", "unknown CPU model 'haswel'",
                   "'haswell'"},
           BadBase{"haswell@4", "haswell@5", "a.toml:5:12", "no version 5", "1, 2, 3, 4"},
           BadBase{"haswell@4", "haswell", "a.toml:5:12", "needs the version", "\"haswell@4\""},
           BadBase{"haswell@4", "haswell-notsx", "a.toml:5:12", "needs the version",
                   "\"haswell@2\""},
           BadBase{"haswell@4", "./b.toml", "a.toml:5:12", "is a file", "vmm cpu list"},
           BadBase{"haswell@4", "host", "a.toml:5:12", "the rule host", "vmm cpu baseline"},
           BadBase{"haswell@4", "mine@1", "a.toml:5:12", "'mine' inherits itself", "a name"},
           BadBase{"\"mine\"", "\"haswell\"", "a.toml:5:12", "'haswell' inherits itself", "a name"},
           BadBase{"[\"pdpe1gb\"]", "[\"avx\"]", "a.toml:10:7", "the version before has", ""},
           BadBase{"remove =", "features =", "a.toml:11:12", "inherits nothing", ""},
           BadBase{"[\"avx2\"]", "[\"mpx\"]", "a.toml:11:10", "the version before lacks", ""},
       }) {
    std::string text = std::string(kHead) + kVersion;
    text.replace(text.find(bad.from), std::string_view(bad.from).size(), bad.to);
    const auto file = parse_cpu_model(text, "a.toml");
    ASSERT_FALSE(file) << bad.to;
    EXPECT_EQ(file.error().kind(), ErrorKind::Usage);
    EXPECT_EQ(file.error().place(), bad.place) << file.error().text();
    EXPECT_THAT(file.error().text(), HasSubstr(bad.message));
    EXPECT_THAT(file.error().hint_text(), HasSubstr(bad.hint)) << bad.to;
  }
}

TEST(Inherits, the_text_of_a_change_reads_as_the_same_model) {
  for (const auto& [left, right] : {std::pair{"haswell@4", "skylake-server@5"},
                                    {"epyc-turin", "epyc@1"},
                                    {"haswell@4", "haswell@1"},
                                    {"zen3@2", "kvm64"},
                                    {"skylake-xeon@2", "sapphirerapids"}}) {
    const CpuModel from = *find_cpu_model(left);
    CpuModel to = *find_cpu_model(right);
    to.name = "other";
    to.version = 1;
    to.alias.clear();
    const std::string text = cpu_model_text(to, from, "one\ntwo");
    const auto file = parse_cpu_model(text, "other.toml");
    ASSERT_TRUE(file) << file.error().text() << "\n" << text;
    EXPECT_EQ(file->versions.front(), to) << text;
    EXPECT_THAT(text, HasSubstr("# one\n# two\nschema = 1\n"));
  }
}

TEST(Inherits, an_equal_model_changes_nothing) {
  CpuModel same = base();
  same.name = "same";
  EXPECT_EQ(cpu_model_changes(same, base()), "");
  EXPECT_THAT(cpu_model_text(same, base(), ""), Not(HasSubstr("add")));
}

}  // namespace
}  // namespace vmm
