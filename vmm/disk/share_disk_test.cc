#include "vmm/disk/share_disk.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vmm/disk/fat_reader_fake.h"

namespace vmm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class ShareDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "share-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    share = folder / "share";
    fs::create_directory(share);
  }
  void TearDown() override { fs::remove_all(folder); }

  void write(const fs::path& path, const std::string& text) const {
    fs::create_directories((share / path).parent_path());
    std::ofstream(share / path, std::ios::binary) << text;
  }
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

  fs::path folder, share;
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

// The tools that others check FAT with, on the disk's bytes in a file.
class ShareDiskTools : public ShareDiskTest {
 protected:
  static bool runs(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  }
  static std::string output(const std::string& command) {
    std::string text;
    FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    char part[4096];
    while (pipe != nullptr) {
      const std::size_t count = std::fread(part, 1, sizeof part, pipe);
      if (count == 0) break;
      text.append(part, count);
    }
    text += "exit " + std::to_string(pipe != nullptr ? WEXITSTATUS(::pclose(pipe)) : -1);
    return text;
  }
  // The partition alone, with holes where it is empty.
  std::string partition() const {
    const auto disk = open();
    std::string path = folder / "partition.img";
    std::ofstream image(path, std::ios::binary);
    std::vector<std::uint8_t> data(64 * 1024);
    const std::uint64_t size = disk->geometry().sectors * 512;
    for (std::uint64_t at = 2048 * 512; at < size; at += data.size()) {
      const std::size_t count =
          static_cast<std::size_t>(std::min<std::uint64_t>(data.size(), size - at));
      EXPECT_TRUE(disk->read(at, std::span(data).first(count)));
      if (std::all_of(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(count),
                      [](std::uint8_t b) { return b == 0; }))
        continue;
      image.seekp(static_cast<std::streamoff>(at - 2048 * 512));
      image.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(count));
    }
    image.close();
    fs::resize_file(path, size - 2048 * 512);
    return path;
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

TEST_F(ShareDiskTools, fsck_finds_nothing_to_repair) {
  if (!runs("command -v fsck.vfat"))
    GTEST_SKIP() << "fsck.vfat is not installed (package dosfstools, tools/setup test)";
  fill();
  const std::string text = output("LC_ALL=C.UTF-8 fsck.vfat -n -v " + partition());
  EXPECT_THAT(text, HasSubstr("exit 0"));
  EXPECT_THAT(text, HasSubstr("309 files"));
  for (const char* complaint : {"wrong", "Wrong", "differ", "orphan", "Fixing", "Auto", "invalid"})
    EXPECT_THAT(text, testing::Not(HasSubstr(complaint)));
}

TEST_F(ShareDiskTools, mtools_list_and_copy) {
  if (!runs("command -v mdir"))
    GTEST_SKIP() << "mdir is not installed (package mtools, tools/setup test)";
  fill();
  const std::string image = partition();
  const std::string listing = output("LC_ALL=C.UTF-8 mdir -/ -b -i " + image + " ::");
  for (const char* path :
       {"::/README.TXT", "::/a rather long name with spaces.and.dots.txt",
        "::/EFI/BOOT/BOOTX64.EFI", "::/empty directory/", "::/many/file number 299"})
    EXPECT_THAT(listing, HasSubstr(path));
  const fs::path copy = folder / "copy";
  EXPECT_TRUE(runs("mcopy -i " + image + " '::/many/file number 299' " + copy.string()));
  EXPECT_EQ(fs::file_size(copy), 299u * 40);
}

}  // namespace
}  // namespace vmm
