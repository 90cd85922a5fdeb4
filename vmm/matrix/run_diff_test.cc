#include "vmm/matrix/run_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

CellRecord cell(const std::string& guest, CellVerdict verdict, const std::string& reason = "") {
  return fake_cell(guest, "epyc", "svm", verdict, reason);
}

std::vector<std::string> ids(const std::vector<RunDiff::Cell>& cells) {
  std::vector<std::string> result;
  for (const RunDiff::Cell& one : cells) result.push_back(one.id.substr(0, one.id.find(' ')));
  return result;
}

TEST(RunDiff, sorts_what_changed) {
  const RunRecord before =
      fake_run({cell("same", CellVerdict::Pass), cell("broke", CellVerdict::Pass),
                cell("mended", CellVerdict::Crash, "triple fault"), cell("gone", CellVerdict::Pass),
                cell("skipped", CellVerdict::Pass), cell("worse", CellVerdict::Fail, "x"),
                cell("why", CellVerdict::Fail, "line a"), cell("infra", CellVerdict::Skip)});
  const RunRecord after =
      fake_run({cell("infra", CellVerdict::Infra), cell("same", CellVerdict::Pass),
                cell("broke", CellVerdict::Timeout, "boot"), cell("mended", CellVerdict::Pass),
                cell("skipped", CellVerdict::Skip), cell("worse", CellVerdict::Crash, "y"),
                cell("why", CellVerdict::Fail, "line b"), cell("new", CellVerdict::Fail)});
  const RunDiff diff = diff_runs(before, after);
  EXPECT_THAT(ids(diff.now_failing), ElementsAre("broke", "infra"));
  EXPECT_THAT(ids(diff.now_passing), ElementsAre("mended"));
  EXPECT_THAT(ids(diff.otherwise), ElementsAre("skipped", "worse"));
  EXPECT_THAT(ids(diff.reasons), ElementsAre("why"));
  EXPECT_THAT(diff.only_before, ElementsAre("gone cpu-model=epyc on=svm"));
  EXPECT_THAT(diff.only_after, ElementsAre("new cpu-model=epyc on=svm"));
  EXPECT_THAT(diff.values, IsEmpty());
  EXPECT_EQ(diff.same, 1u);
  EXPECT_TRUE(diff.any_verdict());
}

TEST(RunDiff, of_a_run_with_itself_is_nothing) {
  const RunRecord run = fake_run({cell("a", CellVerdict::Pass), cell("b", CellVerdict::Fail, "x")});
  const RunDiff diff = diff_runs(run, run);
  EXPECT_FALSE(diff.any_verdict());
  EXPECT_EQ(diff.same, 2u);
  EXPECT_EQ(run_diff_text(diff), "0 now failing, 0 now passing, 0 otherwise, 2 the same\n");
}

TEST(RunDiff, one_change_of_many_cells_is_told_once) {
  RunRecord before = fake_run(
      {cell("a", CellVerdict::Pass), cell("b", CellVerdict::Pass), cell("c", CellVerdict::Pass)});
  RunRecord after = before;
  for (CellRecord& one : after.cells) one.cpu.guest_digest = std::string(64, 'c');
  after.cells[2].cpu.guest_digest = "";  // it never came so far
  after.cells[2].host = "svm 6.18";
  after.header.host = "svm, Linux 6.18";
  after.header.digest = std::string(64, 'e');
  const RunDiff diff = diff_runs(before, after);
  ASSERT_EQ(diff.values.size(), 2u);
  EXPECT_EQ(diff.values[0].what, "guest digest");
  EXPECT_EQ(diff.values[0].before, std::string(64, 'b'));
  EXPECT_EQ(diff.values[0].after, std::string(64, 'c'));
  EXPECT_THAT(diff.values[0].ids,
              ElementsAre("a cpu-model=epyc on=svm", "b cpu-model=epyc on=svm"));
  EXPECT_EQ(diff.values[1].what, "host");
  EXPECT_FALSE(diff.any_verdict());
  const std::string text = run_diff_text(diff);
  EXPECT_THAT(text, HasSubstr("matrix: dddddddddddd -> eeeeeeeeeeee\n"));
  EXPECT_THAT(text, HasSubstr("host: pvm, Linux 6.18.44 -> svm, Linux 6.18\n"));
  EXPECT_THAT(text, HasSubstr("    2 cells, such as a cpu-model=epyc on=svm\n"));
  EXPECT_THAT(text, Not(HasSubstr("vmm: ")));
}

TEST(RunDiffText, has_verdicts_and_reasons_and_no_controls) {
  const RunRecord before =
      fake_run({cell("a", CellVerdict::Pass), cell("b", CellVerdict::Fail, "x"),
                cell("c", CellVerdict::Crash, "why")});
  const RunRecord after =
      fake_run({cell("a", CellVerdict::Fail, "it \x1b[2Jbroke"), cell("b", CellVerdict::Fail, "y"),
                cell("c", CellVerdict::Pass)});
  EXPECT_EQ(run_diff_text(diff_runs(before, after)),
            "now failing (1):\n"
            "  PASS -> FAIL  a cpu-model=epyc on=svm\n"
            "    it ^[[2Jbroke\n"
            "now passing (1):\n"
            "  CRASH -> PASS  c cpu-model=epyc on=svm\n"
            "    was: why\n"
            "another reason (1):\n"
            "  FAIL     b cpu-model=epyc on=svm\n"
            "    was: x\n"
            "    now: y\n"
            "1 now failing, 1 now passing, 1 otherwise, 0 the same\n");
}

TEST(RunDiffText, lists_only_so_many) {
  RunRecord before = fake_run({});
  RunRecord after = fake_run({});
  for (int i = 0; i < 10; ++i) {
    before.cells.push_back(cell(std::to_string(i), CellVerdict::Pass));
    after.cells.push_back(cell(std::to_string(i), CellVerdict::Fail));
  }
  EXPECT_THAT(run_diff_text(diff_runs(before, after), 3),
              HasSubstr("now failing (10):\n  PASS -> FAIL  0 cpu-model=epyc on=svm\n"
                        "  PASS -> FAIL  1 cpu-model=epyc on=svm\n"
                        "  PASS -> FAIL  2 cpu-model=epyc on=svm\n  and 7 more\n"));
}

TEST(RunDiffJson, says_the_same) {
  const RunRecord before =
      fake_run({cell("a", CellVerdict::Pass), cell("gone", CellVerdict::Pass)});
  RunRecord after = fake_run({cell("a", CellVerdict::Fail, "x")});
  after.cells[0].cpu.model = "epyc@2";
  const auto document = run_diff_json(diff_runs(before, after));
  EXPECT_EQ(document["schema"], "vmm-matrix-diff");
  EXPECT_EQ(document["version"], 1);
  EXPECT_EQ(document["now_failing"][0], (nlohmann::json{{"id", "a cpu-model=epyc on=svm"},
                                                        {"before", "PASS"},
                                                        {"after", "FAIL"},
                                                        {"reason_before", ""},
                                                        {"reason_after", "x"}}));
  EXPECT_EQ(document["only_before"][0], "gone cpu-model=epyc on=svm");
  EXPECT_EQ(document["values"][0]["what"], "CPU model");
  EXPECT_EQ(document["values"][0]["after"], "epyc@2");
  EXPECT_EQ(document["host"]["before"], "pvm, Linux 6.18.44");
}

}  // namespace
}  // namespace vmm
