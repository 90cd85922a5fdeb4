// What words are understood as, and what is said of those that are not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cli/commands.h"

namespace vmm {
namespace {

using testing::HasSubstr;

using Words = std::vector<std::string>;

// "usage: MESSAGE; HINT" for words that are not understood, else "understood".
std::string verdict(Words words) {
  words.insert(words.begin(), "vmm");
  const auto command = parse_command_line(words);
  if (command) return command->run ? "understood" : "without a function";
  EXPECT_EQ(command.error().kind(), ErrorKind::Usage);
  return command.error().text() + "; " + command.error().hint_text();
}

TEST(CommandLine, known_words_are_understood) {
  for (const Words& words : std::vector<Words>{{"--help"},
                                               {"--version"},
                                               {"run", "--help"},
                                               {"host", "--json"},
                                               {"run", "kernel.elf", "--", "--anything"},
                                               {"lab", "list"},
                                               {"lab", "stop", "--name", "a"}})
    EXPECT_EQ(verdict(words), "understood") << words.front();
}

TEST(CommandLine, a_mistyped_word_gets_the_nearest_one) {
  EXPECT_THAT(verdict({"hots"}), HasSubstr("did you mean host?"));
  EXPECT_THAT(verdict({"run", "--cpu-modl=haswell", "k.elf"}), HasSubstr("--cpu-model?"));
  EXPECT_THAT(verdict({"lab", "exce"}), HasSubstr("exec"));
  EXPECT_THAT(verdict({"run", "--nothing-like-it", "k.elf"}), HasSubstr("is not understood"));
}

TEST(CommandLine, no_words_are_an_error_and_no_crash) {
  EXPECT_THAT(verdict({}), HasSubstr("vmm --help"));
  EXPECT_FALSE(parse_command_line({}));
  EXPECT_THAT(verdict({"lab"}), HasSubstr("subcommand"));
  EXPECT_THAT(verdict({"\xff\x01"}), HasSubstr("\\xff\\x01"));
  EXPECT_THAT(verdict({""}), HasSubstr("is not understood"));
}

// The words behind -- are another vmm's: they are understood when the command runs, before anything
// is started.
TEST(CommandLine, what_is_meant_for_a_lab_is_checked_before_the_lab) {
  const auto error_of = [](const Words& words) {
    const auto command = parse_command_line(words);
    if (!command) return "not understood: " + command.error().text();
    const auto result = command->run();
    return result ? "ran" : result.error().text();
  };
  EXPECT_THAT(error_of({"vmm", "lab", "exec", "--", "hots"}), HasSubstr("the command for the lab"));
  EXPECT_THAT(error_of({"vmm", "lab", "exec", "--", "run", "--no-such", "k.elf"}),
              HasSubstr("the command for the lab"));
  EXPECT_THAT(error_of({"vmm", "lab", "exec", "--", "run", "/no/such/kernel.elf"}),
              HasSubstr("/no/such/kernel.elf"));
  EXPECT_THAT(error_of({"vmm", "lab", "exec", "--", "lab", "list"}),
              HasSubstr("no place in a lab"));
  EXPECT_THAT(error_of({"vmm", "lab", "exec"}), HasSubstr("the command is missing"));
  EXPECT_THAT(error_of({"vmm", "lab", "run", "--backend", "mips", "--", "host"}),
              HasSubstr("mips"));
}

}  // namespace
}  // namespace vmm
