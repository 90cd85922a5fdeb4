// The tools that others check FAT with, on the disks that are made of directories.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/disk/share_disk.h"
#include "vmm/disk/share_rig.h"

namespace vmm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class FatTools : public ShareRig {
 protected:
  std::unique_ptr<ShareDisk> open() const {
    auto disk = ShareDisk::open(share, "id");
    EXPECT_TRUE(disk) << disk.error().text();
    return disk ? std::move(*disk) : nullptr;
  }
  // The partition in a file, its directory's name excepted.
  std::string partition() const {
    const auto disk = open();
    const fs::path path = folder / "partition.img";
    dump(*disk, path);
    return path;
  }
  static std::string fsck(const std::string& image) {
    return output("LC_ALL=C.UTF-8 fsck.vfat -n -v " + image);
  }
  static void expect_clean(const std::string& text) {
    EXPECT_THAT(text, HasSubstr("exit 0"));
    for (const char* complaint :
         {"wrong", "Wrong", "differ", "orphan", "Fixing", "Auto", "invalid", "not matching"})
      EXPECT_THAT(text, testing::Not(HasSubstr(complaint)));
  }
  std::map<std::string, std::string> copied_by_mtools(const std::string& image) const {
    const fs::path copy = folder / "copy";
    fs::create_directory(copy);
    const std::string text =
        output("LC_ALL=C.UTF-8 mcopy -s -n -i " + image + " '::*' " + copy.string());
    EXPECT_THAT(text, HasSubstr("exit 0"));
    return contents(copy);
  }
  void fill() const {
    write("README.TXT", "capital\n");
    write("a rather long name with spaces.and.dots.txt", "long\n");
    write("EFI/BOOT/BOOTX64.EFI", std::string(70'001, 'e'));
    write("\xc3\xa4\xe2\x82\xac.txt", "unicode\n");
    fs::create_directory(share / "empty directory");
    for (int i = 0; i < 300; ++i)
      write("many/file number " + std::to_string(i),
            std::string(static_cast<std::size_t>(i) * 40, 'm'));
  }
};

TEST_F(FatTools, fsck_finds_nothing_to_repair) {
  if (!runs("command -v fsck.vfat"))
    GTEST_SKIP() << "fsck.vfat is not installed (package dosfstools, tools/setup test)";
  fill();
  const std::string text = fsck(partition());
  expect_clean(text);
  EXPECT_THAT(text, HasSubstr("309 files"));
}

TEST_F(FatTools, mtools_read_every_file_back) {
  if (!has_mtools()) GTEST_SKIP() << "mtools are not installed (tools/setup test)";
  fill();
  const std::string image = partition();
  EXPECT_EQ(copied_by_mtools(image), contents(share));
  EXPECT_EQ(output("mtype -i " + image + " ::/README.TXT"), "capital\nexit 0");
}

TEST_F(FatTools, ten_thousand_files_and_deep_folders_come_back) {
  if (!has_mtools() || !runs("command -v fsck.vfat"))
    GTEST_SKIP() << "mtools or dosfstools are not installed (tools/setup test)";
  for (int i = 0; i < 10'000; ++i)
    write("all/" + std::string(static_cast<std::size_t>(i % 60), 'n') + " " + std::to_string(i),
          std::to_string(i * 7));
  std::string deep;
  for (int i = 0; i < 30; ++i) deep += "level " + std::to_string(i) + "/";
  write(deep + "bottom", "here");
  const std::string image = partition();
  expect_clean(fsck(image));
  const auto expected = contents(share);
  EXPECT_EQ(expected.size(), 10'032U);
  EXPECT_EQ(copied_by_mtools(image), expected);
}

long resident_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST_F(FatTools, gigabyte_of_files_is_not_read_into_memory) {
  constexpr std::uintmax_t kEach = 256U << 20;
  for (int i = 0; i < 4; ++i) {
    const std::string name = "sparse " + std::to_string(i);
    write(name, "start");
    fs::resize_file(share / name, kEach);
  }
  const long before = resident_kib();
  const auto disk = open();
  EXPECT_GT(disk->geometry().sectors, 4 * kEach / kSectorSize);
  std::vector<std::uint8_t> data(1U << 20);
  unsigned starts = 0;
  for (std::uint64_t at = 0; at < disk->geometry().sectors * kSectorSize; at += data.size()) {
    const auto part = std::span(data).first(static_cast<std::size_t>(
        std::min<std::uint64_t>(data.size(), disk->geometry().sectors * kSectorSize - at)));
    ASSERT_TRUE(disk->read(at, part));
    const std::string_view text(reinterpret_cast<const char*>(part.data()), part.size());
    for (std::size_t found = text.find("start"); found != text.npos;
         found = text.find("start", found + 1))
      ++starts;
  }
  EXPECT_EQ(starts, 4U);
  EXPECT_LT(resident_kib() - before, 64 * 1024);
}

TEST_F(FatTools, file_that_cannot_be_read_is_refused) {
  write("sub/secret", "s");
  ASSERT_EQ(chmod((share / "sub/secret").c_str(), 0), 0);
  // Root may read everything, so somebody else asks.
  fs::permissions(folder, fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec);
  const bool root = geteuid() == 0;
  if (root) {
    ASSERT_EQ(seteuid(65534), 0);
  }
  const auto disk = ShareDisk::open(share, "id");
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  ASSERT_FALSE(disk);
  EXPECT_EQ(exit_code(disk.error().kind()), 65);
  EXPECT_THAT(disk.error().text(), HasSubstr("share/sub/secret: EACCES"));
}

}  // namespace
}  // namespace vmm
