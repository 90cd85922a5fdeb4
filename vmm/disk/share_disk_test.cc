#include "vmm/disk/share_disk.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vmm/disk/fat_reader_fake.h"
#include "vmm/disk/share_rig.h"

namespace vmm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class ShareDiskTest : public ShareRig {
 protected:
  std::unique_ptr<BlockBackend> open() const {
    auto disk = ShareDisk::open(share, "id");
    EXPECT_TRUE(disk) << disk.error().text();
    return disk ? std::move(*disk) : nullptr;
  }
  std::string refusal() const {
    const auto disk = ShareDisk::open(share, "id");
    if (disk) return {};
    EXPECT_EQ(exit_code(disk.error().kind()), 65);
    return disk.error().text();
  }
  static std::map<std::string, std::string> read(BlockBackend& disk) {
    FatReader reader([&](std::uint64_t sector) {
      std::vector<std::uint8_t> data(512);
      if (!disk.read(sector * 512, data)) throw std::runtime_error("I/O error");
      return data;
    });
    return reader.files();
  }
};

TEST_F(ShareDiskTest, has_what_the_directory_has) {
  write("hello.txt", "hello\n");
  write("EFI/BOOT/BOOTX64.EFI", std::string(100'000, 'e'));
  write("empty", "");
  fs::create_directory(share / "nothing");
  const auto disk = open();
  EXPECT_TRUE(disk->geometry().read_only);
  EXPECT_FALSE(disk->write(0, std::vector<std::uint8_t>(512)));
  const std::map<std::string, std::string> expected{
      {"hello.txt", "hello\n"},
      {"EFI/", ""},
      {"EFI/BOOT/", ""},
      {"EFI/BOOT/BOOTX64.EFI", std::string(100'000, 'e')},
      {"empty", ""},
      {"nothing/", ""}};
  EXPECT_EQ(read(*disk), expected);
}

TEST_F(ShareDiskTest, bytes_are_read_when_the_guest_reads_them) {
  write("file", "before");
  const auto disk = open();
  write("file", "after!");
  EXPECT_EQ(read(*disk).at("file"), "after!");
  write("file", "a longer text than there was");
  EXPECT_EQ(read(*disk).at("file"), "a long") << "with the size that it had";
  write("file", "x");
  EXPECT_THROW(read(*disk), std::runtime_error) << "an I/O error where it ends";
}

TEST_F(ShareDiskTest, more_files_than_are_kept_open_are_read) {
  for (int i = 0; i < 30; ++i) write("f" + std::to_string(i), std::to_string(i));
  const auto disk = open();
  for (int round = 0; round < 2; ++round) {
    const auto all = read(*disk);
    for (int i = 0; i < 30; ++i) EXPECT_EQ(all.at("f" + std::to_string(i)), std::to_string(i));
  }
  const auto descriptors = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  const auto before = descriptors();
  (void)read(*disk);
  EXPECT_EQ(descriptors(), before);
}

TEST_F(ShareDiskTest, links_to_files_within_are_files) {
  write("sub/target", "t");
  fs::create_symlink("sub/target", share / "link");
  fs::create_symlink("../link", share / "sub/back");
  EXPECT_EQ(read(*open()).at("link"), "t");
  EXPECT_EQ(read(*open()).at("sub/back"), "t");
}

TEST_F(ShareDiskTest, what_leads_out_or_is_no_file_is_refused_by_name) {
  const auto refused_link = [this](const fs::path& target) {
    fs::create_symlink(target, share / "link");
    std::string text = refusal();
    fs::remove(share / "link");
    EXPECT_THAT(text, HasSubstr((share / "link").string()));
    return text;
  };
  std::ofstream(folder / "secret") << "s";
  EXPECT_THAT(refused_link("../secret"), HasSubstr("a link that leads out of the directory"));
  EXPECT_THAT(refused_link("/etc/passwd"), HasSubstr("a link that leads out of the directory"));
  EXPECT_THAT(refused_link("nothing"), HasSubstr("a link to nothing"));
  EXPECT_THAT(refused_link("link"), HasSubstr("a link in a circle"));
  EXPECT_THAT(refused_link("."), HasSubstr("a link to something other than a file"));
  ASSERT_EQ(mkfifo((share / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(refusal(), HasSubstr("fifo: it is neither a file nor a directory"));
}

TEST_F(ShareDiskTest, a_file_that_becomes_a_link_is_not_followed_out) {
  write("file", "inside");
  std::ofstream(folder / "secret") << "secret";
  const auto disk = open();
  fs::remove(share / "file");
  fs::create_symlink("../secret", share / "file");
  EXPECT_THROW(read(*disk), std::runtime_error);
  fs::remove(share / "file");
  fs::create_symlink(folder / "secret", share / "file");
  EXPECT_THROW(read(*disk), std::runtime_error);
}

TEST_F(ShareDiskTest, names_that_fat_cannot_have_are_refused) {
  write("a:b", "");
  EXPECT_THAT(refusal(), HasSubstr("share/a:b: its name has a :"));
  fs::remove(share / "a:b");
  write("Same", "");
  write("same", "");
  EXPECT_THAT(refusal(), HasSubstr("to FAT its name is the same as Same"));
}

TEST_F(ShareDiskTest, what_is_no_directory_is_refused) {
  EXPECT_THAT(ShareDisk::open(folder / "missing", "id").error().text(), HasSubstr("ENOENT"));
  std::ofstream(folder / "file") << "x";
  EXPECT_THAT(ShareDisk::open(folder / "file", "id").error().text(), HasSubstr("ENOTDIR"));
}

}  // namespace
}  // namespace vmm
