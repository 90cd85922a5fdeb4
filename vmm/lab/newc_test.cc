#include "loader/newc.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"
#include "vmm/base/process.h"

namespace vmm {
namespace {

std::vector<std::uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

std::string finished(NewcArchive archive) {
  const auto bytes = std::move(archive).finish();
  return {bytes.begin(), bytes.end()};
}

// Magic, then inode, mode, uid, gid, links, mtime, size, device (2), rdev (2), name size, check.
TEST(Newc, an_empty_archive_is_its_trailer) {
  using namespace std::string_literals;
  EXPECT_EQ(finished({}),
            "070701"
            "00000000"
            "00000000"
            "00000000"
            "00000000"
            "00000001"
            "00000000"
            "00000000"
            "00000000"
            "00000000"
            "00000000"
            "00000000"
            "0000000B"
            "00000000"
            "TRAILER!!!\0\0\0\0"s);
}

TEST(Newc, a_file_is_padded_to_four_bytes) {
  using namespace std::string_literals;
  NewcArchive archive;
  archive.add_file("init", bytes_of("hello"), 0755);
  const std::string expected =
      "070701"
      "00000001"
      "000081ED"
      "00000000"
      "00000000"
      "00000001"
      "00000000"
      "00000005"
      "00000000"
      "00000000"
      "00000000"
      "00000000"
      "00000005"
      "00000000"
      "init\0\0hello\0\0\0"s;
  const std::string text = finished(std::move(archive));
  EXPECT_EQ(text.substr(0, expected.size()), expected);
  EXPECT_EQ(text.substr(expected.size(), 6), "070701");
}

TEST(Newc, directories_above_an_entry_are_made_once) {
  NewcArchive archive;
  archive.add_directory("lib", 0700);
  archive.add_file("lib/modules/a.ko", bytes_of("a"));
  archive.add_file("lib/modules/b.ko", bytes_of("b"));
  const std::string text = finished(std::move(archive));
  const auto count = [&](std::string_view name) {
    std::size_t found = 0;
    for (std::size_t at = text.find(name); at != text.npos; at = text.find(name, at + 1)) ++found;
    return found;
  };
  using namespace std::string_view_literals;
  EXPECT_EQ(count("lib\0"sv), 1u);
  EXPECT_EQ(count("lib/modules\0"sv), 1u);
  EXPECT_EQ(count("000041C0"sv), 1u);  // the mode that was asked for
  EXPECT_LT(text.find("lib/modules\0"sv), text.find("lib/modules/a.ko"));
}

TEST(NewcDeathTest, paths_are_relative) {
  NewcArchive archive;
  EXPECT_DEATH(archive.add_file("/init", {}), "relative");
}

// The one reader besides the kernel that is at hand.
TEST(Newc, cpio_reads_what_was_added) {
  if (!find_program("cpio")) GTEST_SKIP() << "cpio is not installed";
  std::string directory = testing::TempDir() + "newcXXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  NewcArchive archive;
  archive.add_character_device("dev/console", 5, 1);
  archive.add_file("etc/lab.json", bytes_of("{}\n"));
  archive.add_symlink("bin", "usr/bin");
  archive.add_file("init", std::vector<std::uint8_t>(100'001, 7), 0755);
  ASSERT_TRUE(write_file(directory + "/a", std::move(archive).finish()));
  const auto listed = run_tool({"cpio", "-tv", "-F", "a"}, directory, std::chrono::seconds(60));
  ASSERT_TRUE(listed);
  EXPECT_TRUE(listed->ok) << listed->death;
  EXPECT_NE(listed->output.find("crw-------"), std::string::npos) << listed->output;
  EXPECT_NE(listed->output.find("5,   1"), std::string::npos) << listed->output;
  EXPECT_NE(listed->output.find("bin -> usr/bin"), std::string::npos) << listed->output;
  EXPECT_NE(listed->output.find("-rwxr-xr-x"), std::string::npos) << listed->output;
  EXPECT_NE(listed->output.find("100001"), std::string::npos) << listed->output;
  const auto unpacked =
      run_tool({"cpio", "-id", "-F", "a", "etc/lab.json"}, directory, std::chrono::seconds(60));
  ASSERT_TRUE(unpacked);
  EXPECT_TRUE(unpacked->ok) << unpacked->death;
  EXPECT_EQ(read_first_line(directory + "/etc/lab.json"), "{}");
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace vmm
