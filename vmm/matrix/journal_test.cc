#include "vmm/matrix/journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class JournalTest : public testing::Test {
 protected:
  JournalTest() {
    std::string name = testing::TempDir() + "vmm-journal-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~JournalTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/journal.jsonl"; }
  std::string text() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& content) const {
    std::ofstream(path(), std::ios::binary) << content;
  }
  Journal create() const {
    auto journal = Journal::create(directory_, run_.header);
    if (!journal) ADD_FAILURE() << journal.error().text();
    return std::move(journal.value());
  }
  RunRecord read() const {
    const auto run = read_journal(directory_);
    if (!run) ADD_FAILURE() << run.error().text();
    return run.value_or(RunRecord{});
  }
  std::string error() const {
    const auto run = read_journal(directory_);
    return run ? "no error" : run.error().text();
  }

  std::string directory_;
  const RunRecord run_ = fake_run({fake_cell("a", "epyc", "host"),
                                   fake_cell("b", "epyc", "host", CellVerdict::Crash, "it died"),
                                   fake_cell("c", "epyc", "host")});
};

TEST_F(JournalTest, a_whole_run_reads_back) {
  {
    Journal journal = create();
    for (const CellRecord& cell : run_.cells) ASSERT_TRUE(journal.add(cell));
    ASSERT_TRUE(journal.finish(run_.finished));
  }
  const RunRecord again = read();
  EXPECT_EQ(again.header, run_.header);
  EXPECT_EQ(again.cells, run_.cells);
  EXPECT_EQ(again.finished, run_.finished);
}

TEST_F(JournalTest, cells_come_in_the_matrix_order_and_the_later_line_counts) {
  Journal journal = create();
  ASSERT_TRUE(journal.add(run_.cells[2]));
  ASSERT_TRUE(journal.finish(1764266410));
  CellRecord changed = run_.cells[0];
  changed.verdict = CellVerdict::Fail;
  ASSERT_TRUE(journal.add(changed));
  ASSERT_TRUE(journal.add(run_.cells[0]));
  const RunRecord again = read();
  EXPECT_EQ(again.cells, (std::vector{run_.cells[0], run_.cells[2]}));
  EXPECT_EQ(again.finished, 0) << "cells were added after its end";
}

TEST_F(JournalTest, a_torn_last_line_is_cut_off_wherever_it_is_torn) {
  {
    Journal journal = create();
    ASSERT_TRUE(journal.add(run_.cells[0]));
  }
  const std::string whole = text();
  {
    Journal journal = *Journal::reopen(directory_);
    ASSERT_TRUE(journal.add(run_.cells[1]));
  }
  const std::string two = text();
  for (std::size_t size = whole.size(); size < two.size(); size += 7) {
    write(two.substr(0, size));
    EXPECT_THAT(read().cells, SizeIs(1));
    auto journal = Journal::reopen(directory_);
    ASSERT_TRUE(journal) << journal.error().text();
    EXPECT_EQ(text(), whole) << size;
    ASSERT_TRUE(journal->add(run_.cells[2]));
    EXPECT_EQ(read().cells, (std::vector{run_.cells[0], run_.cells[2]}));
  }
}

TEST_F(JournalTest, no_run_is_made_twice_in_a_directory) {
  { const Journal journal = create(); }
  const std::string before = text();
  const auto second = Journal::create(directory_, run_.header);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(second.error().text(), HasSubstr("journal.jsonl exists: a run was made there"));
  EXPECT_EQ(text(), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
}

TEST_F(JournalTest, a_second_writer_is_refused) {
  const Journal journal = create();
  const auto second = Journal::reopen(directory_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(second.error().text(), HasSubstr("another vmm writes this journal"));
}

TEST_F(JournalTest, a_writer_that_was_killed_leaves_whole_lines_and_no_lock) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto journal = Journal::create(directory_, run_.header);
    if (!journal) ::_exit(1);
    for (std::size_t i = 0;; ++i)
      if (!journal->add(run_.cells[i % 3])) ::_exit(2);
  }
  while (!std::filesystem::exists(path()) || std::filesystem::file_size(path()) < 100000)
    ::usleep(1000);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  auto journal = Journal::reopen(directory_);
  ASSERT_TRUE(journal) << journal.error().text();
  EXPECT_EQ(text().back(), '\n');
  EXPECT_EQ(read().cells, run_.cells);
}

TEST_F(JournalTest, on_a_full_disk_the_last_whole_line_is_the_end) {
  Journal journal = create();
  ASSERT_TRUE(journal.add(run_.cells[0]));
  const std::string before = text();
  // A limit on the size of files takes half of the line, as a disk that fills up does.
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{before.size() + 100, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto added = journal.add(run_.cells[1]);
  ::setrlimit(RLIMIT_FSIZE, &old);
  ::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().kind(), ErrorKind::Internal);
  EXPECT_THAT(added.error().text(), HasSubstr("'b cpu-model=epyc on=host' is not in the journal"));
  EXPECT_THAT(added.error().text(), HasSubstr("EFBIG"));
  EXPECT_THAT(added.error().hint_text(), HasSubstr("--resume"));
  EXPECT_EQ(text(), before);
  ASSERT_TRUE(journal.add(run_.cells[2])) << "with room again it goes on";
  EXPECT_EQ(read().cells, (std::vector{run_.cells[0], run_.cells[2]}));
}

TEST_F(JournalTest, bytes_that_are_no_text_do_not_spoil_a_line) {
  Journal journal = create();
  CellRecord cell = run_.cells[0];
  cell.reason = "line '\xff\xfe\n\x1b[31m' is forbidden";
  ASSERT_TRUE(journal.add(cell));
  EXPECT_THAT(read().cells.at(0).reason, HasSubstr("\n\x1b[31m' is forbidden"));
}

TEST_F(JournalTest, what_is_no_journal_is_refused_with_its_line) {
  EXPECT_THAT(error(), HasSubstr("ENOENT"));
  write("");
  EXPECT_THAT(error(), HasSubstr("no whole line in it"));
  write("{}\n");
  EXPECT_THAT(error(), HasSubstr("journal.jsonl:1: not the journal of a run"));
  write("[]\n");
  EXPECT_THAT(error(), HasSubstr("journal.jsonl:1: no line of a journal"));
  std::filesystem::remove(path());
  { const Journal journal = create(); }
  const std::string header = text();
  write(header + "{\"cell\":{}}\n");
  EXPECT_THAT(error(), HasSubstr("journal.jsonl:2: id is missing"));
  write(header + "\n");
  EXPECT_THAT(error(), HasSubstr("journal.jsonl:2: not JSON"));
  write(header + "{\"surprise\":1}\n");
  EXPECT_THAT(error(), HasSubstr("journal.jsonl:2: no line of a journal"));
  write(header + "{\"finished\":\"now\"}\n");
  EXPECT_THAT(error(), HasSubstr("journal.jsonl:2: finished is no number of seconds"));
  write(header + std::string(100000, '[') + "\n");
  EXPECT_THAT(error(), HasSubstr("journal.jsonl:2: not JSON"));
  std::string later = header;
  later.replace(later.find("\"version\":1"), 11, "\"version\":2");
  write(later);
  EXPECT_THAT(error(), HasSubstr("a journal of version 2; this vmm reads version 1"));
  EXPECT_FALSE(Journal::reopen(directory_));
  EXPECT_EQ(text(), later);
}

TEST_F(JournalTest, a_cell_that_was_not_chosen_is_refused) {
  Journal journal = create();
  ASSERT_TRUE(journal.add(fake_cell("stranger", "epyc", "host")));
  EXPECT_THAT(error(), HasSubstr("the cell 'stranger cpu-model=epyc on=host' is not in the run"));
}

}  // namespace
}  // namespace vmm
