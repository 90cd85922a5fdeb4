#include "vmm/cli/matrix_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

RunnerProgress some_progress() {
  RunnerProgress progress;
  progress.done = 37;
  progress.all = 412;
  progress.counts = {{CellVerdict::Pass, 35}, {CellVerdict::Fail, 2}};
  progress.running = {"hello smp=2 on=svm", "a-guest-with-a-long-name smp=4 on=vmx irqchip=split"};
  progress.seconds_left = 80;
  return progress;
}

TEST(ProgressLine, has_counts_what_runs_and_the_time) {
  const std::string line = progress_line(some_progress(), 200);
  EXPECT_THAT(line, StartsWith("[ 37/412] 35 PASS 2 FAIL | hello smp=2 on=svm, a-guest"));
  EXPECT_THAT(line, HasSubstr(" left"));
}

TEST(ProgressLine, keeps_to_the_terminals_width_and_gives_up_what_runs_first) {
  for (std::size_t columns = 1; columns < 160; ++columns)
    EXPECT_LE(progress_line(some_progress(), columns).size(), columns);
  const std::string line = progress_line(some_progress(), 60);
  EXPECT_THAT(line, HasSubstr("35 PASS 2 FAIL"));
  EXPECT_THAT(line, HasSubstr(" left"));
}

TEST(CellLine, cannot_steer_a_terminal) {
  CellRecord cell;
  cell.id = "evil\x1b[2J";
  cell.verdict = CellVerdict::Fail;
  cell.reason = "\x07" + std::string(500, 'x');
  const std::string line = cell_line(cell);
  EXPECT_THAT(line, StartsWith("FAIL"));
  EXPECT_THAT(line, Not(HasSubstr("\x1b")));
  EXPECT_THAT(line, Not(HasSubstr("\x07")));
  EXPECT_LT(line.size(), 300u);
}

}  // namespace
}  // namespace vmm
