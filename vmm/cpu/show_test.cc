#include "vmm/cpu/show.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/host_grant_fake.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

TEST(Show, every_model_fits_a_hundred_columns) {
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    ASSERT_TRUE(file);
    const auto cpu = resolve_cpu(name, CpuPolicy::Force, {}, generous_grant());
    ASSERT_TRUE(cpu);
    EXPECT_THAT(show_lines(*cpu, &*file, true), Each(SizeIs(testing::Le(100U)))) << name;
  }
}

TEST(Show, features_stand_by_name_beside_their_word) {
  const auto file = builtin_cpu_model("haswell");
  const auto cpu = resolve_cpu("haswell,+pdpe1gb", CpuPolicy::Force, {}, generous_grant());
  ASSERT_TRUE(file && cpu);
  const auto lines = show_lines(*cpu, &*file, false);
  EXPECT_EQ(lines[0], "haswell@4,+pdpe1gb  Core, 4th generation (Haswell client, 2013)");
  EXPECT_THAT(lines, Contains("  80000001.EDX  syscall nx pdpe1gb rdtscp lm"));
  EXPECT_THAT(lines, Contains("  versions      1-4; haswell is haswell@4"));
  EXPECT_THAT(lines, Contains(HasSubstr("haswell-notsx = @2")));
  EXPECT_THAT(lines, Not(Contains(HasSubstr("000306c1 00010800"))));
  EXPECT_THAT(show_lines(*cpu, nullptr, true), Contains(HasSubstr("000306c1 00010800")));
}

TEST(Show, amds_copies_of_1_edx_are_not_listed_twice) {
  const auto cpu = resolve_cpu("qemu64", CpuPolicy::Force, {}, generous_grant());
  ASSERT_TRUE(cpu);
  for (const WordFeatures& word : features_by_word(*cpu)) {
    if (word.word == "80000001.EDX") {
      EXPECT_THAT(word.names, testing::ElementsAre("syscall", "nx", "lm"));
    }
  }
}

TEST(List, models_stand_under_their_vendor_and_say_what_the_host_gives) {
  const std::vector<ModelRow> rows = {
      {"epyc@3", "1-4", "AMD", "EPYC 7001", 0},
      {"haswell@4", "1-4", "Intel", "Core", 1},
      {"host", "", "", "KVM's", 0},
      {"qemu64@1", "1", "AMD", "Small", 33},
  };
  EXPECT_EQ(fmt::format("\n{}", fmt::join(list_lines(rows), "\n")), R"(
MODEL     VERSIONS WHAT IT IS THIS HOST
host               KVM's      gives it

AMD
epyc@3    1-4      EPYC 7001  gives it
qemu64@1  1        Small      lacks 33 bits

Intel
haswell@4 1-4      Core       lacks 1 bit)");
}

TEST(List, an_unknown_host_has_no_column) {
  EXPECT_THAT(
      list_lines({{"epyc@3", "1-4", "AMD", "EPYC 7001", {}}}),
      testing::ElementsAre("MODEL  VERSIONS WHAT IT IS", "", "AMD", "epyc@3 1-4      EPYC 7001"));
}

TEST(List, all_that_is_built_in_fits_a_hundred_columns) {
  std::vector<ModelRow> rows;
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    ASSERT_TRUE(file);
    rows.push_back({file->find(file->default_version)->full_name(), version_range(*file),
                    vendor_name(file->versions[0].vendor), file->title, 1234});
  }
  EXPECT_THAT(list_lines(rows), Each(SizeIs(testing::Le(100U))));
}

TEST(List, version_ranges_show_gaps) {
  CpuModelFile file;
  for (const unsigned number : {1U, 3U, 4U, 5U, 9U}) {
    CpuModel model;
    model.version = number;
    file.versions.push_back(model);
  }
  EXPECT_EQ(version_range(file), "1, 3-5, 9");
}

}  // namespace
}  // namespace vmm
