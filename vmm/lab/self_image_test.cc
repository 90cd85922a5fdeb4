#include "vmm/lab/self_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "vmm/base/process.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;

TEST(SelfImage, names_the_program_its_loader_and_its_libraries) {
  const auto self = self_image();
  ASSERT_TRUE(self) << self.error().text();
  EXPECT_EQ(self->program, fs::read_symlink("/proc/self/exe").string());
  EXPECT_EQ(self->files.at(0), self->program);
  const auto has = [&](std::string_view part) {
    return std::any_of(self->files.begin(), self->files.end(), [part](const std::string& file) {
      return fs::path(file).filename().string().starts_with(part);
    });
  };
  EXPECT_TRUE(has("ld-linux-x86-64.so.2"));
  EXPECT_TRUE(has("libc.so.6"));
  EXPECT_TRUE(has("libstdc++.so.6"));
  EXPECT_FALSE(has("linux-vdso"));
  for (const std::string& file : self->files) {
    EXPECT_TRUE(file.starts_with('/')) << file;
    EXPECT_TRUE(fs::is_regular_file(file)) << file;
    EXPECT_EQ(std::count(self->files.begin(), self->files.end(), file), 1) << file;
  }
}

// The proof: a root with nothing but these files in it. Needs root for chroot().
TEST(SelfImage, the_files_suffice_to_run_it_in_another_root) {
  if (::geteuid() != 0) GTEST_SKIP() << "chroot needs root";
  const auto self = self_image();
  ASSERT_TRUE(self) << self.error().text();
  std::string root = testing::TempDir() + "rootXXXXXX";
  ASSERT_NE(::mkdtemp(root.data()), nullptr);
  for (const std::string& file : self->files) {
    const std::string copy = root + file;
    fs::create_directories(fs::path(copy).parent_path());
    std::error_code error;
    fs::copy_file(file, copy, error);  // through links, as the lab's copy is
    ASSERT_FALSE(error) << copy;
  }
  const auto run = run_tool({"/usr/sbin/chroot", root, self->program, "--gtest_list_tests"}, "/",
                            std::chrono::seconds(100));
  fs::remove_all(root);
  ASSERT_TRUE(run) << run.error().text();
  // Its exit code is no help: a sanitizer's search for leaks fails where there is no /proc.
  EXPECT_THAT(run->output, testing::HasSubstr("SelfImage.")) << run->death;
}

TEST(SelfImageDeathTest, a_program_that_was_replaced_is_refused) {
  // A copy of this program deletes itself and looks.
  if (const char* copy = ::getenv("VMM_TEST_DELETED_COPY")) {
    ::unlink(copy);
    const auto self = self_image();
    if (self) ::_exit(1);
    ::_exit(self.error().text().find("was replaced or deleted") != std::string::npos ? 42 : 2);
  }
  std::string directory = testing::TempDir() + "copyXXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string copy = directory + "/copy";
  fs::copy_file("/proc/self/exe", copy);
  ASSERT_EQ(::chmod(copy.c_str(), 0755), 0);
  ::setenv("VMM_TEST_DELETED_COPY", copy.c_str(), 1);
  const auto run =
      run_tool({copy, "--gtest_filter=SelfImageDeathTest.*"}, "/", std::chrono::seconds(100));
  ::unsetenv("VMM_TEST_DELETED_COPY");
  fs::remove_all(directory);
  ASSERT_TRUE(run) << run.error().text();
  EXPECT_THAT(run->death, testing::HasSubstr("exited with 42"));
}

}  // namespace
}  // namespace vmm
