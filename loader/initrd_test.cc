#include "loader/initrd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "vmm/base/fd.h"

namespace vmm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class Initrd : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "initrdXXXXXX";
    ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string file(const std::string& name, const std::string& content) {
    std::string path = directory_ + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    EXPECT_TRUE(write_file(path, std::vector<std::uint8_t>(content.begin(), content.end())));
    return path;
  }
  static std::string text(const Result<std::vector<std::uint8_t>>& initrd) {
    EXPECT_TRUE(initrd) << initrd.error().text();
    return initrd ? std::string(initrd->begin(), initrd->end()) : std::string();
  }

  std::string directory_;
};

TEST_F(Initrd, archives_follow_each_other_at_multiples_of_four) {
  const std::vector<std::string> archives = {file("a", "12345"), file("b", "678")};
  EXPECT_EQ(text(make_initrd(archives, {})), std::string("12345\0\0\000678", 11));
}

TEST_F(Initrd, additions_are_an_archive_of_their_own_behind_the_others) {
  const std::vector<std::string> archives = {file("a", "12345")};
  const std::vector<InitrdAddition> additions = {{file("my.ko", "module"), "root/my.ko"}};
  const std::string all = text(make_initrd(archives, additions));
  ASSERT_GT(all.size(), 8U);
  EXPECT_EQ(all.substr(8, 6), "070701");
  // Directories above it are made.
  EXPECT_LT(all.find("root\0", 0, 5), all.find("root/my.ko"));
  EXPECT_NE(all.find("module"), all.npos);
  EXPECT_NE(all.find("TRAILER!!!"), all.npos);
}

TEST_F(Initrd, directories_are_packed_with_all_that_is_in_them_in_a_fixed_order) {
  file("d/z", "last");
  file("d/sub/a", "inner");
  fs::create_symlink("z", directory_ + "/d/link");
  fs::permissions(directory_ + "/d/z", fs::perms(0755));
  const std::vector<InitrdAddition> additions = {{directory_ + "/d", "opt"}};
  const std::string all = text(make_initrd({}, additions));
  const auto at = [&](const char* name) { return all.find(name); };
  EXPECT_LT(at("opt/link"), at("opt/sub"));
  EXPECT_LT(at("opt/sub/a"), at("opt/z"));
  EXPECT_NE(at("000081ED"), all.npos);  // mode 0100755
  EXPECT_EQ(all, text(make_initrd({}, additions)));
}

TEST_F(Initrd, directory_can_be_the_root) {
  file("d/init", "#!/bin/sh");
  const std::vector<InitrdAddition> root = {*parse_initrd_addition(directory_ + "/d=/")};
  const std::string all = text(make_initrd({}, root));
  EXPECT_EQ(all.find("init\0", 110, 5), 110U);
  const std::vector<InitrdAddition> no_directory = {
      *parse_initrd_addition(directory_ + "/d/init=/")};
  EXPECT_THAT(make_initrd({}, no_directory).error().text(), HasSubstr("no directory"));
}

TEST_F(Initrd, what_is_not_there_or_no_file_is_named) {
  const std::vector<std::string> missing = {directory_ + "/none"};
  EXPECT_EQ(make_initrd(missing, {}).error().kind(), ErrorKind::Image);
  const std::vector<InitrdAddition> none = {{directory_ + "/none", "x"}};
  EXPECT_THAT(make_initrd({}, none).error().text(), HasSubstr("none: ENOENT"));
  const std::vector<InitrdAddition> device = {{"/dev/null", "x"}};
  EXPECT_THAT(make_initrd({}, device).error().text(), HasSubstr("neither a file"));
  const std::vector<std::string> empty = {file("empty", "")};
  EXPECT_THAT(make_initrd(empty, {}).error().text(), HasSubstr("the file is empty"));
}

TEST(InitrdAddition, halves_are_separated_at_the_last_equals_sign) {
  const auto plain = parse_initrd_addition("build/my.ko=/root//my.ko");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host, "build/my.ko");
  EXPECT_EQ(plain->guest, "root/my.ko");
  EXPECT_EQ(parse_initrd_addition("a=b=c")->host, "a=b");
}

TEST(InitrdAddition, halves_that_lead_nowhere_are_usage_errors) {
  for (const char* text : {"", "a", "=b", "a=", "a=../b", "a=b/./c"}) {
    const auto addition = parse_initrd_addition(text);
    ASSERT_FALSE(addition) << text;
    EXPECT_EQ(addition.error().kind(), ErrorKind::Usage);
  }
}

}  // namespace
}  // namespace vmm
