#include "vmm/matrix/report_tap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/text.h"
#include "vmm/matrix/record_fake.h"
#include "vmm/matrix/sub_results.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TapReport, is_as_it_is_documented) {
  CellRecord crash = fake_cell("b", "epyc", "svm", CellVerdict::Crash, "it \"died\" # hard");
  crash.command = "vmm run 'a b'";
  EXPECT_EQ(tap_report(fake_run({fake_cell("a", "epyc", "svm"), crash})),
            "TAP version 14\n"
            "1..2\n"
            "# all on pvm, Linux 6.18.44: 2 cells: 1 PASS, 1 CRASH\n"
            "ok 1 - a cpu-model=epyc on=svm\n"
            "not ok 2 - b cpu-model=epyc on=svm\n"
            "  ---\n"
            "  verdict: CRASH\n"
            "  reason: \"it \\\"died\\\" # hard\"\n"
            "  expected: \"pass\"\n"
            "  attempts: 1\n"
            "  seconds: 0.250\n"
            "  command: \"vmm run 'a b'\"\n"
            "  ...\n");
}

TEST(TapReport, verdicts_are_test_points_with_directives) {
  std::vector<CellRecord> cells;
  for (const CellVerdict verdict : kVerdicts)
    cells.push_back(
        fake_cell("g", std::string(verdict_word(verdict)), "svm", verdict, "a #TODO b"));
  RunRecord run = fake_run(std::move(cells));
  run.header.cells.push_back("never # SKIP");
  std::vector<std::string> points;
  const std::string text = tap_report(run);
  for (const std::string_view line : split(text, '\n'))
    if (line.starts_with("ok") || line.starts_with("not ok")) points.emplace_back(line);
  EXPECT_THAT(points,
              ElementsAre("ok 1 - g cpu-model=PASS on=svm", "not ok 2 - g cpu-model=FAIL on=svm",
                          "not ok 3 - g cpu-model=XFAIL on=svm # TODO a \\#TODO b",
                          "not ok 4 - g cpu-model=XPASS on=svm",
                          "ok 5 - g cpu-model=SKIP on=svm # SKIP a \\#TODO b",
                          "not ok 6 - g cpu-model=TIMEOUT on=svm",
                          "not ok 7 - g cpu-model=CRASH on=svm", "ok 8 - g cpu-model=FLAKY on=svm",
                          "not ok 9 - g cpu-model=INFRA on=svm", "not ok 10 - never \\# SKIP"));
}

TEST(TapReport, reads_back_with_its_subtests) {
  CellRecord cell = fake_cell("a", "epyc", "svm", CellVerdict::Fail, "2 of its own tests failed");
  SubResults& results = cell.attempts[0].results;
  results.passed = 40;
  results.failed = 2;
  results.failures = {"one\nnot ok 99", "two \x1b[31m"};
  results.skipped = 3;
  results.expected_failures = 1;
  results.problem = "plan 1..50, 46 results";
  const std::string text = tap_report(fake_run({cell, fake_cell("b", "epyc", "svm")}));
  EXPECT_THAT(text, HasSubstr("# Subtest: a cpu-model=epyc on=svm\n"
                              "    ok 1 - 40 passed\n"
                              "    not ok 2 - one not ok 99\n"
                              "    not ok 3 - two ^[[31m\n"
                              "    not ok 4 - 1 failed # TODO\n"
                              "    ok 5 - 3 skipped # SKIP\n"
                              "    not ok 6 - plan 1..50, 46 results\n"
                              "    1..6\n"
                              "not ok 1 - a cpu-model=epyc on=svm\n"));
  SubResultReader reader(ResultFormat::Tap);
  for (const std::string_view line : split(text, '\n')) reader.line(line);
  const SubResults read = reader.finish();
  EXPECT_EQ(read.problem, "");
  EXPECT_EQ(read.passed, 2u);
  EXPECT_EQ(read.failed, 3u);
  EXPECT_EQ(read.skipped, 1u);
  EXPECT_EQ(read.expected_failures, 1u);
}

TEST(TapReport, failures_without_a_name_are_counted) {
  CellRecord cell = fake_cell("a", "epyc", "svm", CellVerdict::Fail, "x");
  cell.attempts[0].results.failed = 30;
  cell.attempts[0].results.failures = std::vector<std::string>(20, "f");
  EXPECT_THAT(tap_report(fake_run({cell})), HasSubstr("    not ok 21 - 10 more failed\n"));
}

}  // namespace
}  // namespace vmm
