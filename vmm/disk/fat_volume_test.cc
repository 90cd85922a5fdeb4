#include "vmm/disk/fat_volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/disk/fat_reader_fake.h"

namespace vmm {
namespace {

using testing::HasSubstr;

// File n's byte at i is n + i, so that a byte from the wrong place shows.
class CountingFiles final : public FatFiles {
 public:
  bool read_file(std::size_t file, std::uint64_t offset, std::span<std::uint8_t> data) override {
    if (file == broken) return false;
    for (std::size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<std::uint8_t>(file + offset + i + (offset + i) / 251);
    most = std::max<std::uint64_t>(most, offset + data.size());
    return true;
  }
  static std::string bytes(std::size_t file, std::size_t size) {
    CountingFiles files;
    std::vector<std::uint8_t> data(size);
    EXPECT_TRUE(files.read_file(file, 0, data));
    return {data.begin(), data.end()};
  }
  std::size_t broken = ~std::size_t{0};
  std::uint64_t most = 0;
};

FatNode file(std::string name, std::size_t number, std::uint64_t size) {
  return {.name = std::move(name), .modified = 1'600'000'000, .size = size, .file = number};
}
FatNode directory(std::string name, std::vector<FatNode> children) {
  return {.name = std::move(name), .directory = true, .children = std::move(children)};
}
FatNode tree() {
  return directory(
      "", {file("zero", 0, 0), file("one", 1, 1), file("CLUSTER.BIN", 2, 4096),
           file("a longer name than most, with \xc3\xa4.text", 3, 10'000),
           directory("EFI", {directory("BOOT", {file("BOOTX64.EFI", 4, 4097)})}),
           directory("empty", {}), directory("deep er", {directory("still", {file("x", 5, 3)})})});
}

class FatVolumeTest : public testing::Test {
 protected:
  CountingFiles files;

  std::map<std::string, std::string> read(const FatVolume& volume) {
    FatReader reader([&](std::uint64_t sector) {
      std::vector<std::uint8_t> data(512);
      EXPECT_LT(sector, volume.sectors());
      EXPECT_TRUE(volume.read(sector * 512, data, files));
      return data;
    });
    return reader.files();
  }
  static std::string refusal(FatNode root) {
    const auto volume = FatVolume::create(std::move(root), "share");
    if (volume) return {};
    EXPECT_EQ(exit_code(volume.error().kind()), 65);
    return volume.error().text();
  }
};

TEST_F(FatVolumeTest, has_all_files_with_their_bytes) {
  const auto all = read(*FatVolume::create(tree(), "share"));
  const std::map<std::string, std::string> expected{
      {"zero", ""},
      {"one", CountingFiles::bytes(1, 1)},
      {"CLUSTER.BIN", CountingFiles::bytes(2, 4096)},
      {"a longer name than most, with \xc3\xa4.text", CountingFiles::bytes(3, 10'000)},
      {"EFI/", ""},
      {"EFI/BOOT/", ""},
      {"EFI/BOOT/BOOTX64.EFI", CountingFiles::bytes(4, 4097)},
      {"empty/", ""},
      {"deep er/", ""},
      {"deep er/still/", ""},
      {"deep er/still/x", CountingFiles::bytes(5, 3)}};
  EXPECT_EQ(all, expected);
}

TEST_F(FatVolumeTest, an_empty_directory_is_an_empty_disk) {
  EXPECT_TRUE(read(*FatVolume::create(directory("", {}), "share")).empty());
}

TEST_F(FatVolumeTest, a_directory_may_take_many_clusters) {
  FatNode root = directory("", {});
  for (std::size_t i = 0; i < 1000; ++i)
    root.children.push_back(file("a file with a long name, number " + std::to_string(i), i, i));
  const auto all = read(*FatVolume::create(std::move(root), "share"));
  ASSERT_EQ(all.size(), 1000u);
  EXPECT_EQ(all.at("a file with a long name, number 999"), CountingFiles::bytes(999, 999));
}

TEST_F(FatVolumeTest, reads_of_any_size_give_the_same_bytes) {
  const FatVolume volume = *FatVolume::create(tree(), "share");
  const std::size_t size = (2048 + 32 + 2 * 513 + 200) * 512;
  std::vector<std::uint8_t> whole(size), parts(size);
  ASSERT_TRUE(volume.read(0, whole, files));
  for (std::size_t at = 0; at < size;) {
    const std::size_t count = std::min<std::size_t>(size - at, 512 * (1 + at / 512 % 37));
    ASSERT_TRUE(volume.read(at, std::span(parts).subspan(at, count), files));
    at += count;
  }
  EXPECT_EQ(whole, parts);
  std::vector<std::uint8_t> last(512, 0xff);
  ASSERT_TRUE(volume.read((volume.sectors() - 1) * 512, last, files));
  EXPECT_EQ(last, std::vector<std::uint8_t>(512));
}

TEST_F(FatVolumeTest, the_same_tree_gives_the_same_disk_whatever_its_order) {
  FatNode other = tree();
  std::reverse(other.children.begin(), other.children.end());
  const FatVolume a = *FatVolume::create(tree(), "share"), b = *FatVolume::create(other, "there");
  std::vector<std::uint8_t> first(2 << 20), second(2 << 20);
  ASSERT_TRUE(a.read(0, first, files));
  ASSERT_TRUE(b.read(0, second, files));
  EXPECT_EQ(first, second);
}

TEST_F(FatVolumeTest, gigabytes_take_no_memory_and_larger_clusters) {
  FatNode root = directory("", {});
  for (std::size_t i = 0; i < 200; ++i)
    root.children.push_back(file("big" + std::to_string(i), i, FatVolume::kMaxFileSize));
  const auto volume = FatVolume::create(root, "share");
  ASSERT_TRUE(volume);
  EXPECT_GT(volume->sectors() * 512, std::uint64_t{200} * FatVolume::kMaxFileSize);
  for (std::size_t i = 0; i < 400; ++i)
    root.children.push_back(file("more" + std::to_string(i), i, FatVolume::kMaxFileSize));
  EXPECT_THAT(refusal(root), HasSubstr("share: its files are too large for a FAT disk together"));
}

TEST_F(FatVolumeTest, a_file_that_cannot_be_read_is_an_error_where_it_lies) {
  const FatVolume volume = *FatVolume::create(tree(), "share");
  files.broken = 3;
  std::vector<std::uint8_t> data(8 * 512);
  unsigned failures = 0;
  for (std::uint64_t at = 0; at < 2048 * 512 + 4 * 1024 * 1024; at += data.size())
    failures += volume.read(at, data, files) ? 0 : 1;
  EXPECT_EQ(failures, 3u) << "of 10000 bytes in clusters of 4096";
}

TEST_F(FatVolumeTest, what_fat_cannot_have_is_refused_by_name) {
  const auto of = [](FatNode node) { return directory("", {directory("sub", {std::move(node)})}); };
  EXPECT_THAT(refusal(of(file("a:b", 0, 0))),
              HasSubstr("share/sub/a:b: its name has a :, which FAT names cannot have"));
  EXPECT_THAT(refusal(of(file("a\nb", 0, 0))), HasSubstr("control character"));
  EXPECT_THAT(refusal(of(file("\xff", 0, 0))), HasSubstr("is not UTF-8"));
  EXPECT_THAT(refusal(of(file("big", 0, std::uint64_t{1} << 32))),
              HasSubstr("share/sub/big: its 4294967296 bytes are more than"));
  EXPECT_THAT(refusal(directory("", {file("Readme", 0, 0), file("README", 1, 0)})),
              HasSubstr("share/Readme: to FAT its name is the same as README"));
  FatNode deep = file("x", 0, 0);
  for (int i = 0; i < 70; ++i) deep = directory("d", {std::move(deep)});
  EXPECT_THAT(refusal(directory("", {deep})), HasSubstr("more than 64 directories deep"));
  FatNode wide = directory("", {});
  for (int i = 0; i < 4000; ++i)
    wide.children.push_back(file(std::string(200, 'x') + std::to_string(i), 0, 0));
  EXPECT_THAT(refusal(wide), HasSubstr("share: it has more entries than a directory on FAT"));
}

}  // namespace
}  // namespace vmm
