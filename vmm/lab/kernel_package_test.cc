#include "vmm/lab/kernel_package.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <thread>

#include "vmm/base/fd.h"
#include "vmm/lab/module_builder.h"

namespace vmm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

TEST(DependedKernel, is_read_from_apt) {
  EXPECT_EQ(
      depended_kernel("linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n"),
      "linux-image-6.1.0-56-cloud-amd64");
  EXPECT_EQ(depended_kernel("linux-image-cloud-amd64\n  Depends: libc6\n"), std::nullopt);
  EXPECT_EQ(depended_kernel("Depends: linux-image-$(rm)\n"), std::nullopt);
  EXPECT_EQ(depended_kernel(""), std::nullopt);
}

// A cache of our own, and in PATH tools that note how they were called.
class KernelCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "cacheXXXXXX";
    ASSERT_NE(::mkdtemp(root_.data()), nullptr);
    fs::create_directories(root_ + "/bin");
    path_ = ::getenv("PATH");
    ::setenv("PATH", (root_ + "/bin:" + path_).c_str(), 1);
    // "Unpacks" by the name of the package: linux-image-RELEASE_VERSION_amd64.deb.
    tool("dpkg-deb",
         "case $2 in *bad*) echo \"dpkg-deb: error: '$2' is not a Debian format archive\" >&2; "
         "exit 2;; esac\n"
         "r=${2##*/linux-image-}; r=${r%%_*}\n"
         "mkdir -p $3/boot $3/lib/modules/$r; : > $3/boot/vmlinuz-$r");
    tool("apt-cache", "echo linux-image-cloud-amd64; echo '  Depends: linux-image-6.1-cloud'");
    tool("apt-get", "case \"$*\" in *download*) : > linux-image-6.1-cloud_1_amd64.deb;; esac");
  }
  void TearDown() override {
    ::setenv("PATH", path_.c_str(), 1);
    fs::remove_all(root_);
  }
  void tool(const std::string& name, const std::string& script) {
    const std::string file = root_ + "/bin/" + name;
    std::ofstream(file) << "#!/bin/sh\necho \"" << name << " $*\" >> " << root_ << "/calls\n"
                        << script << "\n";
    fs::permissions(file, fs::perms::owner_all);
  }
  std::string calls() const {
    std::ifstream file(root_ + "/calls");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  std::string directory() const { return root_ + "/kernels"; }
  KernelCache cache() const { return KernelCache(directory()); }
  void put_package(const std::string& name) {
    fs::create_directories(directory());
    std::ofstream(directory() + "/" + name) << "package";
  }
  std::string root_;
  std::string path_;
};

TEST_F(KernelCacheTest, is_filled_by_apt_once) {
  const auto first = cache().obtain();
  ASSERT_TRUE(first) << first.error().text();
  const std::string unpacked = directory() + "/linux-image-6.1-cloud_1_amd64";
  EXPECT_EQ(first->image, unpacked + "/boot/vmlinuz-6.1-cloud");
  EXPECT_EQ(first->modules, unpacked + "/lib/modules/6.1-cloud");
  EXPECT_FALSE(fs::exists(directory() + "/.work"));
  const std::string asked = calls();
  EXPECT_THAT(asked,
              HasSubstr("apt-get -o APT::Sandbox::User=root download linux-image-6.1-cloud"));
  const auto second = cache().obtain();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->image, first->image);
  EXPECT_EQ(calls(), asked);  // works without a network
}

TEST_F(KernelCacheTest, a_package_put_there_by_hand_is_used) {
  put_package("linux-image-6.9-cloud_2_amd64.deb");
  tool("apt-cache", "exit 1");
  const auto kernel = cache().obtain();
  ASSERT_TRUE(kernel) << kernel.error().text();
  EXPECT_THAT(kernel->image, HasSubstr("vmlinuz-6.9-cloud"));
  EXPECT_THAT(calls(), testing::Not(HasSubstr("apt")));
}

TEST_F(KernelCacheTest, the_highest_version_wins) {
  put_package("linux-image-6.1.0-9-cloud_1_amd64.deb");
  put_package("linux-image-6.1.0-10-cloud_1_amd64.deb");
  const auto kernel = cache().obtain();
  ASSERT_TRUE(kernel) << kernel.error().text();
  EXPECT_THAT(kernel->image, HasSubstr("vmlinuz-6.1.0-10-cloud"));
}

TEST_F(KernelCacheTest, an_unknown_package_makes_apt_fetch_its_lists) {
  tool("apt-cache",
       "case \"$*\" in *Dir::State::lists=*) echo '  Depends: linux-image-6.1-cloud';;\n"
       "*) echo 'E: No packages found' >&2; exit 100;; esac");
  const auto kernel = cache().obtain();
  ASSERT_TRUE(kernel) << kernel.error().text();
  EXPECT_THAT(calls(), HasSubstr(" update\n"));
}

TEST_F(KernelCacheTest, a_stale_package_list_is_renewed) {
  tool("apt-get",
       "case \"$*\" in *Dir::State::lists=*download*) : > linux-image-6.1-cloud_1_amd64.deb;;\n"
       "*download*) echo 'E: 404  Not Found' >&2; exit 100;; esac");
  const auto kernel = cache().obtain();
  ASSERT_TRUE(kernel) << kernel.error().text();
}

TEST_F(KernelCacheTest, a_failure_quotes_apt_and_names_the_place_for_a_copy) {
  tool("apt-get", "echo 'E: Temporary failure resolving mirror.example' >&2; exit 100");
  const auto kernel = cache().obtain();
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.error().kind(), ErrorKind::NoLab);
  EXPECT_THAT(kernel.error().text(), HasSubstr("Temporary failure resolving"));
  EXPECT_THAT(kernel.error().hint_text(), HasSubstr(directory()));
  EXPECT_FALSE(fs::exists(directory() + "/.work"));
}

TEST_F(KernelCacheTest, the_warnings_of_an_update_without_a_network_are_quoted) {
  tool("apt-cache", "echo 'E: No packages found' >&2; exit 100");
  tool("apt-get", "echo 'W: Failed to fetch http://mirror.example/' >&2");
  const auto kernel = cache().obtain();
  ASSERT_FALSE(kernel);
  EXPECT_THAT(kernel.error().text(), HasSubstr("W: Failed to fetch"));
}

TEST_F(KernelCacheTest, a_bad_package_is_named) {
  put_package("bad.deb");
  const auto kernel = cache().obtain();
  ASSERT_FALSE(kernel);
  EXPECT_THAT(kernel.error().text(),
              HasSubstr(directory() + "/bad.deb could not be unpacked: dpkg-deb (PID "));
  EXPECT_THAT(kernel.error().text(), HasSubstr("is not a Debian format archive"));
  EXPECT_FALSE(fs::exists(directory() + "/bad"));
}

TEST_F(KernelCacheTest, a_full_disk_is_said) {
  tool("dpkg-deb", "echo 'tar: write error: No space left on device' >&2; exit 2");
  const auto kernel = cache().obtain();
  ASSERT_FALSE(kernel);
  EXPECT_THAT(kernel.error().text(), HasSubstr("No space left on device"));
}

TEST_F(KernelCacheTest, half_done_work_is_not_taken_for_a_kernel) {
  fs::create_directories(directory() + "/.work/root/boot");
  fs::create_directories(directory() + "/.work/root/lib/modules/5-left");
  std::ofstream empty(directory() + "/.work/root/boot/vmlinuz-5-left");
  empty.close();
  fs::create_directories(directory() + "/linux-image-4-incomplete");
  EXPECT_FALSE(cache().newest());
  const auto kernel = cache().obtain();
  ASSERT_TRUE(kernel) << kernel.error().text();
  EXPECT_THAT(kernel->image, HasSubstr("vmlinuz-6.1-cloud"));
}

TEST_F(KernelCacheTest, one_process_fetches_for_all) {
  tool("apt-get",
       "case \"$*\" in *download*) sleep 0.3; : > linux-image-6.1-cloud_1_amd64.deb;; esac");
  std::array<bool, 4> ok{};
  {
    std::vector<std::jthread> threads;
    for (bool& result : ok)
      threads.emplace_back([this, &result] { result = cache().obtain().has_value(); });
  }
  EXPECT_THAT(ok, testing::Each(true));
  const std::string all = calls();
  const std::size_t first = all.find("apt-get ");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(all.find("apt-get ", first + 1), std::string::npos) << all;
}

TEST_F(KernelCacheTest, waiting_for_another_can_be_cancelled) {
  fs::create_directories(directory());
  const Fd other = Fd::open(directory() + "/lock", O_RDWR | O_CREAT).value();
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  const auto kernel = cache().obtain(pipe[0]);
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.error().kind(), ErrorKind::Lab);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_F(KernelCacheTest, a_place_that_cannot_be_made_is_named) {
  std::ofstream(directory()) << "a file";
  const auto kernel = cache().obtain();
  ASSERT_FALSE(kernel);
  EXPECT_EQ(kernel.error().kind(), ErrorKind::NoLab);
  EXPECT_THAT(kernel.error().text(), HasSubstr(directory()));
}

}  // namespace
}  // namespace vmm
