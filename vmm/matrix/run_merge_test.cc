#include "vmm/matrix/run_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class RunMerge : public testing::Test {
 protected:
  // Every `shards`-th of six cells, from `shard` on.
  static RunRecord shard(std::uint64_t shard, std::uint64_t shards) {
    std::vector<CellRecord> cells;
    for (std::uint64_t i = shard - 1; i < 6; i += shards)
      cells.push_back(fake_cell(std::string(1, static_cast<char>('a' + i)), "epyc", "host"));
    RunRecord run = fake_run(std::move(cells));
    run.header.all_cells = 6;
    run.header.shard = shard;
    run.header.shards = shards;
    run.header.selection = "shard " + std::to_string(shard);
    run.header.started += static_cast<double>(shard);
    run.finished += static_cast<double>(shard);
    return run;
  }
  static std::string guests(const RunRecord& run) {
    std::string text;
    for (const CellRecord& cell : run.cells) text += cell.axis("guest");
    return text;
  }
};

TEST_F(RunMerge, shards_make_the_run_whatever_order_they_come_in) {
  const auto merged = merge_runs({shard(3, 3), shard(1, 3), shard(2, 3)}, {"c", "a", "b"});
  ASSERT_TRUE(merged) << merged.error().text();
  EXPECT_EQ(guests(merged->run), "abcdef");
  EXPECT_EQ(merged->run.header.cells.size(), 6u);
  EXPECT_EQ(merged->run.header.shards, 0u);
  EXPECT_EQ(merged->run.header.started, 1764266401);
  EXPECT_EQ(merged->run.finished, 1764266463);
  EXPECT_EQ(merged->run.header.selection, "shard 3; shard 1; shard 2");
  EXPECT_EQ(merged->text(), "");
}

TEST_F(RunMerge, runs_of_parts_come_one_after_the_other) {
  RunRecord first = shard(1, 2);
  RunRecord second = shard(2, 2);
  first.header.shard = first.header.shards = second.header.shard = second.header.shards = 0;
  const auto merged = merge_runs({first, second}, {});
  ASSERT_TRUE(merged);
  EXPECT_EQ(guests(merged->run), "acebdf");
  EXPECT_EQ(merged->text(), "");
}

TEST_F(RunMerge, directories_say_which_run_they_are_of) {
  RunRecord second = shard(2, 2);
  second.cells[0].attempts[0].directory = "cells/0001/1";
  const auto merged = merge_runs({shard(1, 2), second}, {});
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->run.cells[0].attempts[0].directory, "");
  EXPECT_EQ(merged->run.cells[1].attempts[0].directory, "2/cells/0001/1");
}

TEST_F(RunMerge, a_missing_shard_is_named) {
  const auto merged = merge_runs({shard(1, 3), shard(3, 3)}, {});
  ASSERT_TRUE(merged);
  EXPECT_EQ(guests(merged->run), "acdf");
  EXPECT_THAT(merged->missing_shards, ElementsAre("2/3"));
  EXPECT_EQ(merged->cells_in_no_shard, 2u);
  EXPECT_THAT(merged->not_run, IsEmpty());
  EXPECT_EQ(merged->text(), "missing: shard 2/3\n2 of the matrix's cells were chosen by no run\n");
}

TEST_F(RunMerge, no_shard_is_missed_where_every_cell_is_there) {
  const auto merged = merge_runs({shard(1, 3), shard(1, 1)}, {});
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->run.cells.size(), 6u);
  EXPECT_EQ(merged->text(), "");
}

TEST_F(RunMerge, cells_of_an_interrupted_shard_are_named) {
  RunRecord interrupted = shard(2, 2);
  interrupted.cells.pop_back();
  interrupted.finished = 0;
  const auto merged = merge_runs({shard(1, 2), interrupted}, {});
  ASSERT_TRUE(merged);
  EXPECT_THAT(merged->not_run, ElementsAre("f cpu-model=epyc on=host"));
  EXPECT_EQ(merged->run.finished, 0);
  EXPECT_EQ(merged->text(), "not run: f cpu-model=epyc on=host\n");
}

TEST_F(RunMerge, another_matrix_is_refused) {
  RunRecord other = shard(2, 2);
  other.header.digest = std::string(64, 'e');
  const auto merged = merge_runs({shard(1, 2), other}, {"one", "two"});
  ASSERT_FALSE(merged);
  EXPECT_EQ(merged.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(merged.error().text(),
              HasSubstr("one and two are runs of other matrices (dddddddddddd and eeeeeeeeeeee)"));
  EXPECT_FALSE(merge_runs({}, {}));
}

TEST_F(RunMerge, a_cell_has_one_verdict) {
  const auto same = merge_runs({shard(1, 1), shard(1, 1)}, {});
  ASSERT_TRUE(same);
  EXPECT_EQ(guests(same->run), "abcdef");
  RunRecord other = shard(1, 1);
  other.cells[2].verdict = CellVerdict::Crash;
  const auto merged = merge_runs({shard(1, 1), other}, {"one", "two"});
  ASSERT_FALSE(merged);
  EXPECT_THAT(merged.error().text(),
              HasSubstr("'c cpu-model=epyc on=host' is PASS in one and CRASH in two"));
}

}  // namespace
}  // namespace vmm
