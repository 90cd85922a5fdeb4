#include "vmm/cpu/show.h"

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

TEST(List, columns_are_aligned_and_say_what_the_host_gives) {
  const std::vector<ModelRow> rows = {{"epyc@3", "1-4", "AMD", "EPYC 7001", 0},
                                      {"haswell@4", "1-4", "Intel", "Core", 1},
                                      {"qemu64@1", "1", "AMD", "Small", 33}};
  const auto lines = list_lines(rows);
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines[1], testing::EndsWith("gives it"));
  EXPECT_THAT(lines[2], testing::EndsWith("lacks 1 bit"));
  EXPECT_THAT(lines[3], testing::EndsWith("lacks 33 bits"));
  EXPECT_EQ(lines[0].find("THIS HOST"), lines[1].find("gives it"));
}

TEST(List, an_unknown_host_has_no_column) {
  const auto lines = list_lines({{"epyc@3", "1-4", "AMD", "EPYC 7001", {}}});
  EXPECT_THAT(lines[0], Not(HasSubstr("THIS HOST")));
  EXPECT_EQ(lines[1], "epyc@3            1-4      AMD    EPYC 7001");
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
