#include "vmm/cli/lab_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Words = std::vector<std::string>;

// Parses `words` as the options about a lab.
LabOptions parsed(Words words) {
  LabOptions options;
  CLI::App app;
  add_lab_options(app, options);
  std::reverse(words.begin(), words.end());
  app.parse(words);
  return options;
}

TEST(LabOptions, what_runs_inside_has_none_of_them) {
  EXPECT_THAT(without_lab_options({"vmm", "run", "--on", "svm", "--lab-mem=4G", "--icount", "--smp",
                                   "2", "k.elf", "--kvm-param", "npt=0", "--kvm-param=avic=0"}),
              ElementsAre("vmm", "run", "--smp", "2", "k.elf"));
  EXPECT_THAT(without_lab_options({"vmm", "run", "--on"}), ElementsAre("vmm", "run"));
}

TEST(LabOptions, words_behind_the_dashes_are_the_guests) {
  EXPECT_THAT(without_lab_options({"vmm", "run", "--on=vmx", "k.elf", "--", "--on", "svm"}),
              ElementsAre("vmm", "run", "k.elf", "--", "--on", "svm"));
}

// An option that is added to the one list and not to the other would reach the vmm in the lab.
TEST(LabOptions, every_option_there_is_stays_outside) {
  LabOptions options;
  CLI::App app;
  app.set_help_flag();
  add_lab_options(app, options);
  ASSERT_GE(app.get_options().size(), 9U);
  for (const CLI::Option* option : app.get_options()) {
    Words words = {"vmm", "run", option->get_name()};
    if (option->get_items_expected_max() > 0) words.push_back("1");
    words.push_back("k.elf");
    EXPECT_THAT(without_lab_options(words), ElementsAre("vmm", "run", "k.elf"))
        << option->get_name();
  }
}

TEST(LabOptions, a_spec_has_each_backends_own_memory) {
  EXPECT_EQ(make_lab_spec({}, LabBackend::Svm)->memory, 2_GiB);
  EXPECT_EQ(make_lab_spec({}, LabBackend::Vmx)->memory, 1_GiB);
  const auto spec = make_lab_spec(
      parsed({"--lab-mem", "768M", "--lab-smp", "2", "--kvm-param", "npt=0", "--kvm-param",
              "kvm.ignore_msrs=1", "--icount", "--lab-cpu", "EPYC,+svm", "--lab-log", "logs"}),
      LabBackend::Svm);
  ASSERT_TRUE(spec) << spec.error().text();
  EXPECT_EQ(spec->memory, 768_MiB);
  EXPECT_EQ(spec->cpus, 2U);
  EXPECT_EQ(spec->cpu, "EPYC,+svm");
  EXPECT_EQ(spec->log_dir, "logs");
  EXPECT_TRUE(spec->icount);
  EXPECT_THAT(spec->kvm_params, ElementsAre("npt=0", "kvm.ignore_msrs=1"));
}

TEST(LabOptions, values_that_cannot_be_are_refused) {
  const auto error_of = [](const std::string& memory) {
    LabOptions options;
    options.memory = memory;
    const auto spec = make_lab_spec(options, LabBackend::Svm);
    return spec ? "accepted" : spec.error().text();
  };
  EXPECT_THAT(error_of("511M"), HasSubstr("a lab needs 512 MiB"));
  EXPECT_THAT(error_of("much"), HasSubstr("--lab-mem"));
  EXPECT_THAT(error_of("99999999999999999999G"), HasSubstr("--lab-mem"));
  EXPECT_EQ(error_of("512M"), "accepted");
  for (const Words& words : {Words{"--lab-smp", "0"}, Words{"--lab-smp", "9"},
                             Words{"--lab-watchdog", "0"}, Words{"--lab-watchdog", "1e9"}})
    EXPECT_THROW(parsed(words), CLI::ParseError) << words.front();
}

TEST(LabOptions, only_commands_that_name_their_files_go_into_a_lab) {
  Command none;
  EXPECT_THAT(make_lab_command(none, {"lab", "list"}, {}).error().text(),
              HasSubstr("no place in a lab"));
  Command command;
  command.paths = []() -> Result<std::vector<PathUse>> {
    return std::vector<PathUse>{{.kind = PathUse::Kind::Output, .path = "a/../out.json"}};
  };
  const auto lab = make_lab_command(command, {"run", "k.elf"}, {"vmm", "run", "k\xff.elf"});
  ASSERT_TRUE(lab) << lab.error().text();
  EXPECT_EQ(lab->paths.front().path, lab->directory + "/out.json");
  // The program itself is among the files, and comes first among the words.
  ASSERT_EQ(lab->argv.size(), 3U);
  EXPECT_EQ(lab->argv[1], "run");
  EXPECT_THAT(lab->paths, testing::Contains(testing::Field(&PathUse::path, lab->argv[0])));
  EXPECT_THAT(lab->environment,
              testing::Contains(testing::StartsWith("VMM_COMMAND_LINE=[\"vmm\"")));
}

}  // namespace
}  // namespace vmm
