#include "vmm/cpu/cpu_model.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "vmm/cpu/selection.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A small model; `%` lines of a test replace one line of it.
const char* const kGood = R"(schema = 1
name = "tiny"
title = "A CPU for tests"
default = 2
vendor = "GenuineIntel"
family = 6
model = 94
stepping = 3
max-leaf = 0xD
max-ext-leaf = 0x80000008
phys-bits = 39
virt-bits = 48
caches = [{ level = 1, type = "data", kib = 32, ways = 8, line = 64, shared-by = "core" }]

[[version]]
number = 1
brand = "Tiny"
features = ["fpu", "tsc", "msr", "pae", "lm", "apic", "fxsr", "sse", "sse2"]
vmx = ["vmx-ept"]

[[version]]
number = 2
alias = "tiny-plus"
stepping = 4
add = ["cx8"]
remove = ["msr"]
)";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(CpuModel, a_file_holds_versions_that_build_on_each_other) {
  const auto file = parse_cpu_model(kGood, "tiny.toml");
  ASSERT_TRUE(file) << file.error().text();
  ASSERT_EQ(file->versions.size(), 2U);
  const CpuModel& first = file->versions[0];
  const CpuModel& second = file->versions[1];
  EXPECT_EQ(first.full_name(), "tiny@1");
  EXPECT_EQ(second.full_name(), "tiny@2");
  EXPECT_EQ(file->default_version, 2U);
  EXPECT_EQ(first.stepping, 3U);
  EXPECT_EQ(second.stepping, 4U);
  EXPECT_EQ(second.brand, "Tiny");
  EXPECT_EQ(second.alias, "tiny-plus");
  EXPECT_EQ(second.vmx, first.vmx);
  const auto has = [](const CpuModel& model, std::string_view name) {
    return std::find(model.features.begin(), model.features.end(), feature_id(name)) !=
           model.features.end();
  };
  EXPECT_TRUE(has(first, "msr"));
  EXPECT_FALSE(has(second, "msr"));
  EXPECT_FALSE(has(first, "cx8"));
  EXPECT_TRUE(has(second, "cx8"));
  ASSERT_EQ(first.caches.size(), 1U);
  EXPECT_EQ(first.caches[0].kib, 32U);
}

TEST(CpuModel, a_comment_may_hold_any_letter) {
  EXPECT_TRUE(parse_cpu_model(
      replaced(kGood, "stepping = 4", "stepping = 4  # \u00e9t\u00e9 \u2003\u4e2d\U0001f600"),
      "tiny.toml"));
}

struct BadFile {
  const char* from;
  const char* to;
  const char* place;
  const char* message;
  const char* hint;
};

class CpuModelErrors : public testing::TestWithParam<BadFile> {};

TEST_P(CpuModelErrors, name_the_place_and_the_cure) {
  const BadFile& bad = GetParam();
  const auto file = parse_cpu_model(replaced(kGood, bad.from, bad.to), "tiny.toml");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().kind(), ErrorKind::Usage);
  EXPECT_EQ(file.error().place(), bad.place) << file.error().text();
  EXPECT_THAT(file.error().text(), HasSubstr(bad.message));
  EXPECT_THAT(file.error().hint_text(), HasSubstr(bad.hint));
}

INSTANTIATE_TEST_SUITE_P(
    All, CpuModelErrors,
    testing::Values(
        BadFile{"schema = 1", "schema = 2", "tiny.toml:1:10", "'schema' is 2, allowed is 1", ""},
        BadFile{"family = 6", "famly = 6", "tiny.toml:6:1", "unknown key 'famly'", "'family'"},
        BadFile{"family = 6", "family = 271", "tiny.toml:6:10", "allowed is 0 to 270", ""},
        BadFile{"family = 6", "family = -1", "tiny.toml:6:10", "'family' is -1", ""},
        BadFile{"family = 6", "family = \"6\"", "tiny.toml:6:10", "is a string, not a number", ""},
        BadFile{"family = 6", "family = 5", "tiny.toml:7:9", "model 94 needs family 6", ""},
        BadFile{"family = 6\n", "", "tiny.toml:1:1", "'family' is missing", ""},
        BadFile{"stepping = 3", "stepping = 16", "tiny.toml:8:12", "allowed is 0 to 15", ""},
        BadFile{"phys-bits = 39", "phys-bits = 53", "tiny.toml:11:13", "32 to 52", ""},
        BadFile{"virt-bits = 48", "virt-bits = 50", "tiny.toml:12:13", "48 or 57", ""},
        BadFile{"virt-bits = 48", "virt-bits = 57", "tiny.toml:15:1", "57 without la57", ""},
        BadFile{"\"fpu\", ", "\"fpu\", \"la57\", ", "tiny.toml:15:1", "48 with la57", ""},
        BadFile{"GenuineIntel", "Intel", "tiny.toml:5:10", "12 characters", ""},
        BadFile{"\"tiny\"", "\"Tiny!\"", "tiny.toml:2:8", "lower case", ""},
        BadFile{"\"tiny\"", "\"host\"", "tiny.toml:2:8", "not 'host'", ""},
        BadFile{"\"fpu\"", "\"fpuu\"", "tiny.toml:18:13", "unknown CPU feature 'fpuu'", "'fpu'"},
        BadFile{"\"fpu\"", "\"tsc\"", "tiny.toml:18:20", "'tsc' is there twice", ""},
        BadFile{"\"fpu\"", "\"vmx\"", "tiny.toml:18:13", "is opt-in", ""},
        BadFile{"\"fpu\"", "\"npt\"", "tiny.toml:18:13", "does not belong in 'features'", ""},
        BadFile{"\"fpu\"", "\"vmx-ept\"", "tiny.toml:18:13", "does not belong in 'features'", ""},
        BadFile{"\"fpu\"", "\"hypervisor\"", "tiny.toml:18:13", "always set", ""},
        BadFile{"\"fpu\"", "\"ht\"", "tiny.toml:18:13", "comes from --smp", ""},
        BadFile{"\"fpu\"", "17", "tiny.toml:18:13", "a number, not a string", ""},
        BadFile{"[\"cx8\"]", "[\"tsc\"]", "tiny.toml:25:7", "'add' adds 'tsc'", ""},
        BadFile{"[\"msr\"]", "[\"avx\"]", "tiny.toml:26:10", "'remove' removes 'avx'", ""},
        BadFile{"[\"msr\"]", "\"msr\"", "tiny.toml:26:10", "not an array of strings", ""},
        BadFile{"add = ", "features = ", "tiny.toml:25:12", "belongs to the first version", ""},
        BadFile{"default = 2", "default = 3", "tiny.toml:4:11", "names version 3", ""},
        BadFile{"number = 2", "number = 1", "tiny.toml:22:10", "version 1 comes after version 1",
                ""},
        BadFile{"number = 2", "number = 1000", "tiny.toml:22:10", "1 to 999", ""},
        BadFile{"ways = 8", "ways = 7", "tiny.toml:13:11", "multiple of ways * line", ""},
        BadFile{"\"data\"", "\"date\"", "tiny.toml:13:31", "data, instruction, unified", ""},
        BadFile{"ways = 8", "wayz = 8", "tiny.toml:13:49", "unknown key 'wayz'", "'ways'"},
        BadFile{"caches = [{", "caches = [1, {", "tiny.toml:13:11", "not a table", ""},
        BadFile{"\"Tiny\"", "\"Ti\\u0007ny\"", "tiny.toml:17:9", "printable", ""},
        BadFile{"brand = \"Tiny\"", "brand = \"Tiny", "tiny.toml:17:14", "", ""},
        BadFile{"[[version]]", "[[version]", "tiny.toml:15:11", "", ""},
        BadFile{"stepping = 4", "stepping = 4 \u00e9", "tiny.toml:24:14", "", ""},
        BadFile{"stepping = 4", "stepping = \u00e9", "tiny.toml:24:12", "", ""},
        BadFile{"stepping = 4", "\u00e9 = 4", "tiny.toml:24:1", "", ""},
        BadFile{"default = 2", "default = 2\ndefault = 2", "tiny.toml:5:11", "", ""}));

TEST(CpuModel, files_that_are_nothing_are_errors) {
  EXPECT_FALSE(parse_cpu_model("", "x"));
  EXPECT_FALSE(parse_cpu_model("\xff\xfe", "x"));
  EXPECT_FALSE(parse_cpu_model(std::string(3, '\0'), "x"));
  EXPECT_FALSE(parse_cpu_model(std::string(100000, '['), "x"));
  EXPECT_FALSE(parse_cpu_model("a=" + std::string(100000, '['), "x"));
  const auto big = parse_cpu_model(std::string((1 << 20) + 1, ' '), "big.toml");
  ASSERT_FALSE(big);
  EXPECT_THAT(big.error().text(), HasSubstr("1 MiB"));
}

TEST(CpuModel, every_truncation_is_an_error_or_a_smaller_model) {
  const std::string text = kGood;
  for (std::size_t length = 0; length < text.size(); ++length) {
    const auto file = parse_cpu_model(std::string_view(text).substr(0, length), "cut.toml");
    if (file) {
      EXPECT_GE(file->versions.size(), 1U) << length;
    } else {
      EXPECT_EQ(file.error().kind(), ErrorKind::Usage) << length;
      EXPECT_THAT(file.error().place(), testing::StartsWith("cut.toml")) << length;
    }
  }
}

TEST(CpuModel, built_in_models_are_good_and_named_as_their_files) {
  EXPECT_THAT(builtin_cpu_models(), testing::SizeIs(32));
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    ASSERT_TRUE(file) << file.error().text();
    EXPECT_EQ(file->name, name);
    EXPECT_LE(file->title.size(), 49U) << "the column of vmm cpu list";
    for (const CpuModel& model : file->versions)
      for (const auto* list : {&model.features, &model.svm, &model.vmx})
        for (const FeatureId id : *list)
          for (const FeatureId need : FeatureCatalog::get(id).needs) {
            const std::string_view needed = FeatureCatalog::get(need).name;
            const auto has = [&](const std::vector<FeatureId>& ids) {
              return std::find(ids.begin(), ids.end(), need) != ids.end();
            };
            // Between CPUID and VMX some models disagree, which their files record.
            if (list == &model.vmx && !needed.starts_with("vmx-")) continue;
            EXPECT_TRUE(needed == "svm" || needed == "vmx" || has(model.features) ||
                        has(model.svm) || has(model.vmx))
                << model.full_name() << ": " << FeatureCatalog::get(id).name << " needs " << needed;
          }
  }
}

TEST(CpuModel, a_name_means_one_version) {
  const std::pair<const char*, const char*> kMeanings[] = {
      {"haswell", "haswell@4"},
      {"HASWELL", "haswell@4"},
      {"Haswell@2", "haswell@2"},
      {"haswell-noTSX", "haswell@2"},
      {"epyc", "epyc@3"},
      {"EPYC-IBPB", "epyc@2"},
      {"qemu64", "qemu64@1"},
      {"skylake-server", "skylake-server@5"},
      {"Skylake-Server-IBRS", "skylake-server@2"},
      {"Skylake-Client-noTSX-IBRS", "skylake-client@3"},
      {"Icelake-Server-noTSX", "icelake-server@2"},
      {"Cascadelake-Server-noTSX", "cascadelake-server@3"},
      {"IvyBridge", "ivybridge@2"},
      {"Opteron_G3", "opteron-g3@1"},
      {"Icelake-Server", "icelake-server@6"},  // the last version with two sources
  };
  for (const auto& [name, meaning] : kMeanings) {
    const auto model = find_cpu_model(name);
    ASSERT_TRUE(model) << name << ": " << model.error().text();
    EXPECT_EQ(model->full_name(), meaning);
  }
}

TEST(CpuModel, unknown_names_and_versions_are_usage_errors) {
  const std::tuple<const char*, const char*, const char*> kBad[] = {
      {"haswel", "unknown CPU model 'haswel'", "did you mean 'haswell'?"},
      {"hosst", "unknown CPU model 'hosst'", "did you mean 'host'?"},
      {"haswell-notsx-ibr", "unknown CPU model", "did you mean 'haswell-notsx-ibrs'?"},
      {"pentium-pro-deluxe", "unknown CPU model", "vmm cpu list"},
      {"haswell@9", "haswell has no version 9", "there are 1, 2, 3, 4"},
      {"haswell@", "a number from 1 to 999", ""},
      {"haswell@0", "a number from 1 to 999", ""},
      {"haswell@x", "a number from 1 to 999", ""},
      {"haswell@99999999999999999999", "a number from 1 to 999", ""},
      {"haswell-notsx@2", "another name of haswell@2", ""},
      {"no/such/file.toml", "no/such/file.toml", ""},
      {"nofile.toml", "nofile.toml", ""},
      {"/", "/", ""},
      {"host@1", "unknown CPU model 'host'", ""},
  };
  for (const auto& [name, message, hint] : kBad) {
    const auto model = find_cpu_model(name);
    ASSERT_FALSE(model) << name;
    EXPECT_EQ(model.error().kind(), ErrorKind::Usage) << name;
    EXPECT_THAT(model.error().text(), HasSubstr(message));
    EXPECT_THAT(model.error().hint_text(), HasSubstr(hint));
  }
}

TEST(CpuModel, a_users_file_is_found_by_its_path) {
  const std::string path = testing::TempDir() + "/vmm_cpu_model_test.toml";
  std::ofstream(path) << kGood;
  const auto model = find_cpu_model(path);
  ASSERT_TRUE(model) << model.error().text();
  EXPECT_EQ(model->full_name(), "tiny@2");
  const auto first = find_cpu_model(path + "@1");
  ASSERT_TRUE(first) << first.error().text();
  EXPECT_EQ(first->full_name(), "tiny@1");
  std::remove(path.c_str());
}

struct BadSelection {
  const char* text;
  const char* message;
  const char* hint;
};

TEST(CpuSelection, errors_say_what_is_wrong) {
  const BadSelection kBad[] = {
      {"", "no model is named", "vmm cpu list"},
      {",+avx", "no model is named", ""},
      {"haswell,", "'' changes nothing", ""},
      {"haswell,avx", "'avx' changes nothing", "+avx or -avx"},
      {"haswell,+pdpe1g", "unknown CPU feature 'pdpe1g'", "did you mean 'pdpe1gb'?"},
      {"haswell,+avx999", "unknown CPU feature 'avx999'",
       "names that begin so: avx, avx2, avx512f"},
      {"haswell,+", "unknown CPU feature ''", ""},
      {"haswell,avx=maybe", "'on' or 'off'", ""},
      {"haswell,+hypervisor", "is always set", ""},
      {"haswell,-hypervisor", "is always set", ""},
      {"haswell,-ht", "--smp", ""},
      {"haswell,-zero-fcs-fds", "always set", ""},
      {"haswell,vmx.+etp", "unknown CPU feature 'vmx.etp'", "vmx-ept"},
      {"haswell,vmx.", "changes nothing", ""},
      {"haswell,vmx.+", "unknown CPU feature", ""},
      {"haswell,avx=fixed", "'on' or 'off'", ""},
      {"haswell,vmx.ept-2mb=fixed", "'on' or 'off'", ""},
      {"haswell,phys-bits=", "32 to 52", ""},
      {"haswell,phys-bits=31", "32 to 52", ""},
      {"haswell,phys-bits=53", "32 to 52", ""},
      {"haswell,phys-bits=-1", "32 to 52", ""},
      {"haswell,phys-bits=39x", "32 to 52", ""},
      {"haswell,\x1b[2J", "\\x1b", ""},
  };
  for (const BadSelection& bad : kBad) {
    const auto selection = parse_cpu_selection(bad.text);
    ASSERT_FALSE(selection) << bad.text;
    EXPECT_EQ(selection.error().kind(), ErrorKind::Usage) << bad.text;
    EXPECT_THAT(selection.error().text(), HasSubstr(bad.message));
    EXPECT_THAT(selection.error().hint_text(), HasSubstr(bad.hint));
  }
  EXPECT_FALSE(parse_cpu_selection(std::string(10000, 'x')));
  std::string many = "haswell";
  for (int i = 0; i < 257; ++i) many += ",+avx";
  EXPECT_FALSE(parse_cpu_selection(many));
}

TEST(CpuSelection, overrides_are_read_in_every_spelling) {
  const auto selection =
      parse_cpu_selection("Haswell@2, +PDPE1GB,-lahf_lm,sse3=off,avx=on,phys-bits=0x28");
  ASSERT_TRUE(selection) << selection.error().text();
  EXPECT_EQ(selection->model, "Haswell@2");
  std::vector<std::string> texts;
  for (const CpuOverride& change : selection->overrides) texts.push_back(change.text());
  EXPECT_THAT(texts, ElementsAre("+pdpe1gb", "-lahf-lm", "-pni", "+avx", "phys-bits=40"));
}

}  // namespace
}  // namespace vmm
