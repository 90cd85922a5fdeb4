#include "vmm/matrix/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

RunRecord mixed_run() {
  return fake_run({fake_cell("a", "epyc", "host"), fake_cell("b", "epyc", "host"),
                   fake_cell("c", "epyc", "host", CellVerdict::Flaky, "a line is missing"),
                   fake_cell("d", "epyc", "host", CellVerdict::Skip, "no svm here"),
                   fake_cell("e", "epyc", "host", CellVerdict::Skip, "no svm here"),
                   fake_cell("f", "epyc", "host", CellVerdict::Crash, "it \x1b[31mdied"),
                   fake_cell("g", "epyc", "host", CellVerdict::XFail, "known"),
                   fake_cell("h", "epyc", "host", CellVerdict::Fail, "exit code 1 instead of 0")});
}

TEST(CountsLine, has_the_words_that_are_there) {
  EXPECT_EQ(counts_line(mixed_run()), "8 cells: 2 PASS, 1 FAIL, 1 XFAIL, 2 SKIP, 1 CRASH, 1 FLAKY");
  RunRecord run = mixed_run();
  run.cells.resize(1);
  EXPECT_EQ(counts_line(run), "8 cells: 1 PASS, 7 not run");
  EXPECT_EQ(counts_line(fake_run({fake_cell("a", "x", "host")})), "1 cell: 1 PASS");
  EXPECT_EQ(counts_line(RunRecord{}), "0 cells");
}

TEST(RunSummary, tells_what_did_not_pass_the_gravest_first) {
  EXPECT_EQ(run_summary(mixed_run()),
            "FAIL     h cpu-model=epyc on=host\n"
            "         exit code 1 instead of 0\n"
            "CRASH    f cpu-model=epyc on=host\n"
            "         it ^[[31mdied\n"
            "FLAKY    c cpu-model=epyc on=host\n"
            "         a line is missing\n"
            "SKIP     2 cells\n"
            "         no svm here\n"
            "8 cells: 2 PASS, 1 FAIL, 1 XFAIL, 2 SKIP, 1 CRASH, 1 FLAKY, 1 min 0 s\n");
}

TEST(RunSummary, lists_only_so_many) {
  const std::string text = run_summary(mixed_run(), 1);
  EXPECT_THAT(text, HasSubstr("FAIL     h"));
  EXPECT_THAT(text, Not(HasSubstr("CRASH    f")));
  EXPECT_THAT(text, HasSubstr("and 2 more that did not pass\n"));
}

TEST(RunExitCode, is_the_contract_of_the_documentation) {
  const auto code = [](std::vector<CellVerdict> verdicts, bool fail_on_flaky = false) {
    std::vector<CellRecord> cells;
    for (const CellVerdict verdict : verdicts)
      cells.push_back(fake_cell(std::to_string(cells.size()), "x", "host", verdict));
    return run_exit_code(fake_run(std::move(cells)), fail_on_flaky);
  };
  EXPECT_EQ(code({CellVerdict::Pass, CellVerdict::XFail, CellVerdict::Skip}), 0);
  EXPECT_EQ(code({CellVerdict::Pass, CellVerdict::Flaky}), 0);
  EXPECT_EQ(code({CellVerdict::Pass, CellVerdict::Flaky}, true), 1);
  for (const auto bad :
       {CellVerdict::Fail, CellVerdict::XPass, CellVerdict::Timeout, CellVerdict::Crash})
    EXPECT_EQ(code({CellVerdict::Infra, CellVerdict::Skip, bad}), 1);
  EXPECT_EQ(code({CellVerdict::Pass, CellVerdict::Infra}), 75);
  EXPECT_EQ(code({CellVerdict::Skip, CellVerdict::Skip}), 77);
  EXPECT_EQ(code({}), 0);
}

TEST(DurationText, fits_its_size) {
  EXPECT_EQ(duration_text(0.31), "0.3 s");
  EXPECT_EQ(duration_text(12.4), "12 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(7500), "2 h 5 min");
  EXPECT_EQ(duration_text(-1), "0.0 s");
}

TEST(DateText, is_utc) {
  EXPECT_EQ(date_text(1764266400.7), "2025-11-27 18:00:00 UTC");
  EXPECT_EQ(date_text(0), "");
}

}  // namespace
}  // namespace vmm
