#include "vmm/matrix/run_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace vmm {
namespace {

using namespace std::string_literals;
using testing::ElementsAre;
using testing::SizeIs;
using testing::StartsWith;

class RunFilesTest : public testing::Test {
 protected:
  RunFilesTest() {
    std::string name = testing::TempDir() + "vmm-run-files-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    std::filesystem::create_directories(directory_ + "/cells/1");
  }
  ~RunFilesTest() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name, std::ios::binary) << text;
  }
  RunFiles files() const { return *RunFiles::open(directory_); }

  std::string directory_;
};

TEST_F(RunFilesTest, a_short_log_is_shown_whole_and_clean) {
  write("cells/1/serial.log", "\x1b[32mok\x1b[0m\r\nzero\0\n\n"s);
  const auto tail = files().tail("cells/1/serial.log", 100);
  ASSERT_TRUE(tail);
  EXPECT_EQ(tail->text, "ok\nzero^@");
  EXPECT_EQ(tail->size, 20u);
  EXPECT_FALSE(tail->cut);
}

TEST_F(RunFilesTest, of_a_long_log_whole_lines_at_its_end_are_shown) {
  std::string log;
  for (int i = 0; i < 100000; ++i) log += "line " + std::to_string(i) + "\n";
  write("serial.log", log);
  const auto tail = files().tail("serial.log", 50);
  ASSERT_TRUE(tail);
  EXPECT_EQ(tail->text, "line 99996\nline 99997\nline 99998\nline 99999");
  EXPECT_EQ(tail->size, log.size());
  EXPECT_TRUE(tail->cut);
}

TEST_F(RunFilesTest, one_endless_line_is_cut_between_characters) {
  std::string log;
  for (int i = 0; i < 1000; ++i) log += "\xe2\x82\xac";
  write("serial.log", log);
  const auto tail = files().tail("serial.log", 100);
  ASSERT_TRUE(tail);
  EXPECT_THAT(tail->text, SizeIs(99));
  EXPECT_THAT(tail->text, StartsWith("\xe2\x82\xac"));
}

TEST_F(RunFilesTest, what_is_no_file_of_the_run_is_none) {
  write("empty", "");
  write("secret", "secret\n");
  std::filesystem::create_symlink("../secret", directory_ + "/cells/link");
  std::filesystem::create_directory_symlink("cells", directory_ + "/dirlink");
  write("cells/1/serial.log", "x\n");
  ::mkfifo((directory_ + "/fifo").c_str(), 0600);
  for (const char* path :
       {"missing", "empty", "cells", "fifo", "cells/link", "dirlink/1/serial.log", "../x",
        "cells/../secret", "/etc/passwd", "", ".", "cells//1/serial.log"})
    EXPECT_FALSE(files().tail(path, 100)) << path;
  EXPECT_FALSE(files().tail("secre\0t"s, 100));
  EXPECT_TRUE(files().tail("secret", 100));
}

TEST_F(RunFilesTest, the_card_and_the_screen_of_an_outcome_are_found) {
  write(
      "outcome.json",
      R"({"cause":{"rule":"x","card":["TRIPLE FAULT","  \u001b[31mred",7]},"screen":["hello",""]})");
  const OutcomeText outcome = files().outcome("outcome.json");
  EXPECT_THAT(outcome.card, ElementsAre("TRIPLE FAULT", "  ^[[31mred"));
  EXPECT_THAT(outcome.screen, ElementsAre("hello", ""));
}

TEST_F(RunFilesTest, an_outcome_may_hold_anything) {
  for (const char* text :
       {"", "[]", "{}", "{\"cause\":null}", "{\"cause\":{}}", "{\"cause\":{\"card\":\"x\"}}",
        "{\"cause\":[1]}", "{\"screen\":{\"a\":\"b\"}}", "\xff", "{\"cause\":"}) {
    write("outcome.json", text);
    EXPECT_EQ(files().outcome("outcome.json"), OutcomeText{}) << text;
  }
  write("outcome.json", "{\"cause\":{\"card\":[\"x\"]}}" + std::string(5 << 20, ' '));
  EXPECT_EQ(files().outcome("outcome.json"), OutcomeText{}) << "too large";
  std::string lines = "\"x\"";
  for (int i = 0; i < 1000; ++i) lines += ",\"" + std::string(1000, 'y') + "\"";
  write("outcome.json", "{\"cause\":{\"card\":[" + lines + "]},\"screen\":[" + lines + "]}");
  const OutcomeText outcome = files().outcome("outcome.json");
  EXPECT_THAT(outcome.card, SizeIs(OutcomeText::kMaxLines));
  EXPECT_THAT(outcome.screen, SizeIs(OutcomeText::kMaxLines));
  for (const std::string& line : outcome.card) EXPECT_LE(line.size(), 400u);
}

TEST_F(RunFilesTest, a_picture_has_the_signature_and_a_limit) {
  write("screen.png", "\x89PNG\r\n\x1a\nrest");
  const auto image = files().png("screen.png", 100);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->bytes, "\x89PNG\r\n\x1a\nrest");
  EXPECT_EQ(image->size, 12u);
  const auto large = files().png("screen.png", 11);
  ASSERT_TRUE(large);
  EXPECT_EQ(large->bytes, "");
  EXPECT_EQ(large->size, 12u);
  write("screen.png", "<svg onload=alert(1)>");
  EXPECT_FALSE(files().png("screen.png", 100));
}

TEST_F(RunFilesTest, a_run_that_is_not_there_is_an_error) {
  const auto none = RunFiles::open(directory_ + "/none");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind(), ErrorKind::Usage);
}

}  // namespace
}  // namespace vmm
