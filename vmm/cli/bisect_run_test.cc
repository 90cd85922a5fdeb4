// What a bisection takes from a run, and what it asks of one.
#include "vmm/cli/bisect_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cli/commands.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(BisectRun, a_verdict_is_kind_code_and_rule) {
  const auto death = parse_run_verdict(
      R"({"ending": {"kind": "triple-fault", "exit_code": 80, "headline": "h"},
          "cause": {"rule": "pdpte-ps-without-pdpe1gb", "text": "t", "card": []}})");
  ASSERT_TRUE(death);
  EXPECT_EQ(death->text(), "triple-fault (pdpte-ps-without-pdpe1gb), exit code 80");
  const auto end = parse_run_verdict(
      R"({"ending": {"kind": "guest-exit", "exit_code": 3, "headline": "h"}, "cause": null})");
  ASSERT_TRUE(end);
  EXPECT_EQ(end->text(), "guest-exit, exit code 3");
  EXPECT_FALSE(end->same(*death));
  RunVerdict other = *death;
  other.headline = "another";
  EXPECT_TRUE(other.same(*death));
  other.rule.clear();
  EXPECT_FALSE(other.same(*death));
}

TEST(BisectRun, what_is_no_outcome_is_an_error) {
  for (const char* const text : {"", "[]", "{}", "{\"ending\": 1}", "{\"ending\": {\"kind\": 1}}",
                                 "{\"ending\": {\"kind\": \"reset\", \"exit_code\": \"1\"}}"})
    EXPECT_FALSE(parse_run_verdict(text)) << text;
}

TEST(BisectRun, the_runs_options_come_along) {
  EXPECT_THAT(bisect_run_words({{"--mem", "8M"}, {"k.elf", "-a", "b"}, 5}, "m.toml,+vmx", "o.json"),
              ElementsAre("run", "--cpu-model", "m.toml,+vmx", "--outcome-json", "o.json",
                          "--timeout", "5", "--quiet", "--mem", "8M", "k.elf", "--", "-a", "b"));
}

Error refusal(std::vector<std::string> words) {
  words.insert(words.begin(), {"vmm", "cpu", "bisect"});
  const auto command = parse_command_line(words);
  if (!command) return command.error();
  const Result<int> result = command->run();
  EXPECT_FALSE(result);
  return result ? Error::internal("it ran") : result.error();
}

TEST(BisectRun, words_that_make_no_sense_are_refused_before_anything_runs) {
  const std::vector<std::string> sides = {"--good", "haswell", "--bad", "epyc"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), sides.begin(), sides.end());
    return refusal(std::move(more));
  };
  EXPECT_THAT(with({}).text(), HasSubstr("no kernel is named"));
  EXPECT_THAT(with({"--"}).text(), HasSubstr("no kernel is named"));
  EXPECT_THAT(with({"--mem", "8M"}).hint_text(), HasSubstr("-- KERNEL"));
  EXPECT_THAT(with({"--cpu-model", "host", "--", "k"}).text(), HasSubstr("not for the runs"));
  EXPECT_THAT(with({"--on=svm", "--", "k"}).hint_text(), HasSubstr("vmm lab run"));
  const Error unknown = with({"--mam", "8M", "--", "k"});
  EXPECT_THAT(unknown.text(), HasSubstr("'--mam' is not understood"));
  EXPECT_THAT(unknown.hint_text(), HasSubstr("--mem"));
  EXPECT_THAT(refusal({"--good", "haswel", "--bad", "epyc", "--", "k"}).hint_text(),
              HasSubstr("'haswell'"));
  EXPECT_THAT(refusal({"--good", "host", "--bad", "epyc", "--", "k"}).text(),
              HasSubstr("host is a rule"));
  EXPECT_THAT(refusal({"--good", "haswell", "--bad", "Haswell@4", "--", "k"}).text(),
              HasSubstr("are the same CPU"));
}

}  // namespace
}  // namespace vmm
