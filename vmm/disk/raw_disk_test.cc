#include "vmm/disk/raw_disk.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <numeric>

namespace vmm {
namespace {

using testing::HasSubstr;

class RawDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "raw-disk-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  std::string image(std::size_t size, const char* name = "a.img") {
    std::string path = folder / name;
    std::vector<char> bytes(size);
    std::iota(bytes.begin(), bytes.end(), char{0});
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(size));
    return path;
  }
  static std::string refusal(const std::string& path, bool read_only = false) {
    const auto disk = RawDisk::open(path, read_only, "id");
    if (disk) return {};
    EXPECT_EQ(exit_code(disk.error().kind()), 65);
    EXPECT_THAT(disk.error().text(), HasSubstr(path));
    return disk.error().text() + " | " + disk.error().hint_text();
  }

  std::filesystem::path folder;
};

TEST_F(RawDiskTest, has_the_sectors_of_its_file) {
  const auto disk = *RawDisk::open(image(4096), false, "id");
  EXPECT_EQ(disk->geometry().sectors, 8u);
  EXPECT_EQ(disk->geometry().id, "id");
  EXPECT_FALSE(disk->geometry().read_only);
  std::vector<std::uint8_t> data(512);
  ASSERT_TRUE(disk->read(512, data));
  EXPECT_EQ(data[0], 0);
  EXPECT_EQ(data[255], 255);
}

TEST_F(RawDiskTest, keeps_what_is_written) {
  const std::string path = image(4096);
  {
    const auto disk = *RawDisk::open(path, false, "id");
    ASSERT_TRUE(disk->write(3584, std::vector<std::uint8_t>(512, 0x77)));
    ASSERT_TRUE(disk->flush());
  }
  const auto disk = *RawDisk::open(path, true, "id");
  std::vector<std::uint8_t> data(1024);
  ASSERT_TRUE(disk->read(3072, data));
  EXPECT_EQ(data[511], 0xff);
  EXPECT_EQ(data[512], 0x77);
  EXPECT_EQ(std::filesystem::file_size(path), 4096u);
}

TEST_F(RawDiskTest, a_file_that_was_cut_short_is_an_io_error) {
  const std::string path = image(4096);
  const auto disk = *RawDisk::open(path, false, "id");
  std::filesystem::resize_file(path, 1000);
  std::vector<std::uint8_t> data(1024);
  EXPECT_FALSE(disk->read(0, data));
  EXPECT_TRUE(disk->read(0, std::span(data).first(512)));
}

TEST_F(RawDiskTest, files_that_are_no_disk_are_refused_with_the_reason) {
  EXPECT_THAT(refusal(folder / "missing"), HasSubstr("ENOENT"));
  EXPECT_THAT(refusal(image(0)), HasSubstr("the disk image is empty"));
  EXPECT_THAT(refusal(image(513)), HasSubstr("its 513 bytes are no whole number of sectors"));
  EXPECT_THAT(refusal(folder), HasSubstr("EISDIR"));
  EXPECT_THAT(refusal(folder, true), HasSubstr("neither"));
  const std::string fifo = folder / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(refusal(fifo), HasSubstr("neither"));
  EXPECT_THAT(refusal("/dev/null"), HasSubstr("neither"));
}

TEST_F(RawDiskTest, a_file_that_may_only_be_read_is_refused_with_what_to_write) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write to any file";
  const std::string path = image(512);
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  EXPECT_THAT(refusal(path), HasSubstr("with ,ro the guest may"));
  EXPECT_EQ(refusal(path, true), "");
}

TEST_F(RawDiskTest, who_writes_is_alone) {
  const std::string path = image(512);
  {
    const auto writer = RawDisk::open(path, false, "id");
    ASSERT_TRUE(writer);
    EXPECT_THAT(refusal(path), HasSubstr("another guest uses it"));
    EXPECT_THAT(refusal(path, true), HasSubstr("another guest may write to it"));
  }
  const auto reader = RawDisk::open(path, true, "id");
  ASSERT_TRUE(reader);
  EXPECT_EQ(refusal(path, true), "") << "several may read";
  EXPECT_THAT(refusal(path), HasSubstr("another guest uses it"));
}

}  // namespace
}  // namespace vmm
