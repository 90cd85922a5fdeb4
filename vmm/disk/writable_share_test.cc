#include "vmm/disk/writable_share.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/disk/share_rig.h"
#include "vmm/disk/share_writer.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
namespace fs = std::filesystem;
using End = WritableShare::End;

// mtools are the guest: they work on the partition in a file, and what they change is written to
// the disk.
class WritableShareTest : public ShareRig {
 protected:
  void SetUp() override {
    ShareRig::SetUp();
    if (!has_mtools()) GTEST_SKIP() << "mtools are not installed (tools/setup test)";
    write("kept.txt", "kept");
    write("old name.txt", std::string(9000, 'r'));
    write("changed.txt", "before");
    write("gone.txt", "gone");
    write("dir/inner file.txt", "inner");
    write("dir/sub/deep.txt", "deep");
    write("emptied/file", "x");
  }
  std::unique_ptr<BlockBackend> open(End end) const {
    auto disk = WritableShare::open(share, "id", end);
    EXPECT_TRUE(disk) << disk.error().text();
    return disk ? std::move(*disk) : nullptr;
  }
  // Runs `commands` on the disk; "IMG" in them is the option that names it.
  void guest(BlockBackend& disk, const std::vector<std::string>& commands) const {
    const fs::path image = folder / "guest.img";
    dump(disk, image);
    for (std::string command : commands) {
      const std::size_t at = command.find("IMG");
      command.replace(at, 3, "-i " + image.string());
      const std::string text = output("cd " + folder.string() + " && LC_ALL=C.UTF-8 " + command);
      ASSERT_THAT(text, HasSubstr("exit 0")) << command;
    }
    apply(image, disk);
  }
  std::string file(const std::string& text) const {
    const fs::path path = folder / ("input " + std::to_string(++inputs));
    std::ofstream(path, std::ios::binary) << text;
    return "'" + path.string() + "'";
  }
  bool is_clean() const { return !fs::exists(share / ShareWriter::kStaging); }

  mutable unsigned inputs = 0;
};

TEST_F(WritableShareTest, overlay_keeps_what_the_guest_writes_from_the_host) {
  const auto before = contents(share);
  const auto disk = open(End::Forget);
  EXPECT_FALSE(disk->geometry().read_only);
  guest(*disk, {"mcopy -o IMG " + file("after") + " ::/changed.txt", "mdel IMG ::/gone.txt"});
  const fs::path image = folder / "after.img";
  dump(*disk, image);
  EXPECT_EQ(output("mtype -i " + image.string() + " ::/changed.txt"), "afterexit 0");
  EXPECT_FALSE(runs("mtype -i " + image.string() + " ::/gone.txt"));
  if (runs("command -v fsck.vfat")) {
    EXPECT_THAT(output("fsck.vfat -n " + image.string()), HasSubstr("exit 0"));
  }
  EXPECT_THAT(disk->finish(), IsEmpty());
  EXPECT_EQ(contents(share), before);
}

TEST_F(WritableShareTest, nothing_written_changes_nothing) {
  const auto before = contents(share);
  EXPECT_THAT(open(End::WriteBack)->finish(), IsEmpty());
  EXPECT_EQ(contents(share), before);
}

TEST_F(WritableShareTest, what_the_guest_did_is_done_to_the_directory) {
  auto expected = contents(share);
  ASSERT_EQ(chmod((share / "changed.txt").c_str(), 0750), 0);
  struct stat old {};
  ASSERT_EQ(stat((share / "old name.txt").c_str(), &old), 0);
  const auto disk = open(End::WriteBack);
  const std::string large(3'000'000, 'L');
  guest(*disk,
        {"mcopy -o IMG " + file("after, and longer") + " ::/changed.txt", "mdel IMG ::/gone.txt",
         "mren IMG '::/old name.txt' '::/a new and longer name.txt'",
         "mmd IMG ::/made '::/made/within it'",
         "mmove IMG '::/dir/inner file.txt' '::/made/within it'", "mdeltree IMG ::/emptied"});
  guest(*disk, {"mcopy IMG " + file(large) + " '::/made/large file.bin'"});
  EXPECT_EQ(contents(share), expected) << "not before its end";
  EXPECT_THAT(disk->finish(), ElementsAre("2 files written, 2 renamed, 3 files and directories "
                                          "removed, 2 directories made"));
  expected["changed.txt"] = "after, and longer";
  expected.erase("gone.txt");
  expected.erase("emptied/");
  expected.erase("emptied/file");
  expected["a new and longer name.txt"] = expected["old name.txt"];
  expected.erase("old name.txt");
  expected["made/"] = expected["made/within it/"] = "";
  expected["made/within it/inner file.txt"] = "inner";
  expected.erase("dir/inner file.txt");
  expected["made/large file.bin"] = large;
  EXPECT_EQ(contents(share), expected);
  EXPECT_TRUE(is_clean());
  struct stat status {};
  ASSERT_EQ(stat((share / "changed.txt").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0750U);
  ASSERT_EQ(stat((share / "a new and longer name.txt").c_str(), &status), 0);
  EXPECT_EQ(status.st_ino, old.st_ino) << "it was not copied";
}

TEST_F(WritableShareTest, file_and_directory_change_places) {
  const auto disk = open(End::WriteBack);
  guest(*disk, {"mdel IMG ::/gone.txt", "mmd IMG ::/gone.txt",
                "mcopy IMG " + file("within") + " ::/gone.txt/f", "mdeltree IMG ::/dir",
                "mcopy IMG " + file("flat") + " ::/dir"});
  (void)disk->finish();
  const auto after = contents(share);
  EXPECT_EQ(after.at("gone.txt/f"), "within");
  EXPECT_EQ(after.at("dir"), "flat");
  EXPECT_TRUE(is_clean());
}

TEST_F(WritableShareTest, what_changed_on_the_host_meanwhile_stays) {
  const auto disk = open(End::WriteBack);
  guest(*disk, {"mcopy -o IMG " + file("guest") + " ::/changed.txt", "mdel IMG ::/gone.txt",
                "mcopy IMG " + file("guest") + " ::/new.txt",
                "mren IMG '::/old name.txt' '::/another name.txt'"});
  write("changed.txt", "the host's");
  write("gone.txt", "the host's too");
  write("new.txt", "the host's as well");
  write("old name.txt", "and this");
  const auto host = contents(share);
  const auto lines = disk->finish();
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  EXPECT_THAT(all, HasSubstr("changed.txt: it changed on the host meanwhile"));
  EXPECT_THAT(all, HasSubstr("gone.txt: the guest removed it, but it changed on the host"));
  EXPECT_THAT(all, HasSubstr("new.txt: it could not be put in its place (EEXIST)"));
  EXPECT_THAT(all, HasSubstr("another name.txt: it changed on the host meanwhile"));
  for (const auto& [name, text] : host) EXPECT_EQ(contents(share).at(name), text) << name;
}

TEST_F(WritableShareTest, nothing_outside_of_the_directory_is_touched) {
  fs::create_directory(folder / "outside");
  std::ofstream(folder / "outside/deep.txt") << "safe";
  const auto disk = open(End::WriteBack);
  guest(*disk, {"mcopy -o IMG " + file("evil") + " ::/dir/sub/deep.txt",
                "mcopy IMG " + file("evil") + " ::/dir/sub/new.txt",
                "mcopy -o IMG " + file("evil") + " ::/changed.txt"});
  // The host swaps a directory and a file for links that lead out.
  fs::remove_all(share / "dir/sub");
  fs::create_symlink(folder / "outside", share / "dir/sub");
  fs::remove(share / "changed.txt");
  fs::create_symlink(folder / "outside/deep.txt", share / "changed.txt");
  (void)disk->finish();
  const auto outside = contents(folder / "outside");
  EXPECT_EQ(outside.size(), 1U);
  EXPECT_EQ(outside.at("deep.txt"), "safe");
}

TEST_F(WritableShareTest, link_that_the_guest_wrote_to_becomes_a_file) {
  fs::create_symlink("kept.txt", share / "link");
  const auto disk = open(End::WriteBack);
  guest(*disk, {"mcopy -o IMG " + file("own") + " ::/link"});
  (void)disk->finish();
  EXPECT_EQ(contents(share).at("link"), "own");
  EXPECT_EQ(contents(share).at("kept.txt"), "kept");
}

// Bytes that no driver would write.
class HostileShare : public WritableShareTest {
 protected:
  void SetUp() override {
    WritableShareTest::SetUp();
    disk = open(End::WriteBack);
    before = contents(share);
    layout = std::move(ShareDisk::open(share, "id", OverlayDisk::kMost)).value()->tree().layout;
  }
  // Changes the bytes at `offset` of the disk.
  void poke(std::uint64_t offset, const std::vector<std::uint8_t>& bytes) const {
    std::vector<std::uint8_t> sectors(2 * kSectorSize);
    const std::uint64_t start = align_down(offset, kSectorSize);
    ASSERT_TRUE(disk->read(start, sectors));
    std::ranges::copy(bytes, sectors.begin() + static_cast<std::ptrdiff_t>(offset - start));
    ASSERT_TRUE(disk->write(start, sectors));
  }
  // Where the root directory has the entry with this short name.
  std::uint64_t entry(std::string_view name) const {
    std::vector<std::uint8_t> bytes(layout.cluster_size);
    EXPECT_TRUE(disk->read(layout.data, bytes));
    for (std::size_t at = 0; at < bytes.size(); at += 32)
      if (std::equal(name.begin(), name.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at)))
        return layout.data + at;
    ADD_FAILURE() << "no entry " << name;
    return layout.data;
  }
  std::uint32_t first_cluster(std::string_view name) const {
    std::vector<std::uint8_t> bytes(kSectorSize * 2);
    const std::uint64_t at = entry(name), start = align_down(at, kSectorSize);
    EXPECT_TRUE(disk->read(start, bytes));
    return load<std::uint16_t>(bytes, at - start + 26);
  }
  std::string finish() const {
    std::string all;
    for (const std::string& line : disk->finish()) all += line + "\n";
    return all;
  }
  // A second short name "X" in the root, with these bytes.
  void add_entry(const std::vector<std::uint8_t>& name, std::uint8_t attributes,
                 std::uint32_t cluster, std::uint32_t size) const {
    std::vector<std::uint8_t> bytes(layout.cluster_size);
    ASSERT_TRUE(disk->read(layout.data, bytes));
    std::size_t at = 0;
    while (bytes[at] != 0) at += 32;
    std::vector<std::uint8_t> made(32);
    std::ranges::copy(name, made.begin());
    made[11] = attributes;
    store(made, 20, static_cast<std::uint16_t>(cluster >> 16));
    store(made, 26, static_cast<std::uint16_t>(cluster));
    store(made, 28, size);
    poke(layout.data + at, made);
  }
  static std::vector<std::uint8_t> short_name(std::string_view text) {
    std::vector<std::uint8_t> name(text.begin(), text.end());
    name.resize(11, ' ');
    return name;
  }
  void expect_refused(std::string_view why) const {
    EXPECT_THAT(finish(), testing::AllOf(HasSubstr(std::string(why)),
                                         HasSubstr("nothing was changed on the host")));
    EXPECT_EQ(contents(share), before);
    EXPECT_TRUE(is_clean());
  }

  std::unique_ptr<BlockBackend> disk;
  std::map<std::string, std::string> before;
  FatLayout layout;
};

TEST_F(HostileShare, names_that_lead_somewhere_else_are_left_out_and_nothing_is_removed) {
  add_entry(short_name("../UP"), 0x20, 0, 0);
  add_entry(short_name("A/B"), 0x20, 0, 0);
  add_entry({'A', 7, 'B', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}, 0x20, 0, 0);
  add_entry(short_name(".."), 0x20, 0, 0);
  add_entry(short_name("KEPT    TXT"), 0x20, 0, 0);
  add_entry({0x80, 'B', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}, 0x20, 0, 0);
  add_entry(short_name("FINE"), 0x20, 0, 0);
  poke(entry("GONE"), {0xe5});
  const std::string lines = finish();
  EXPECT_THAT(lines, HasSubstr("../UP: its name has a /"));
  EXPECT_THAT(lines, HasSubstr("A/B: its name has a /"));
  EXPECT_THAT(lines, HasSubstr("A\\x07B: its name has a control character"));
  EXPECT_THAT(lines, HasSubstr("..: its name is that of a directory above it"));
  EXPECT_THAT(lines, HasSubstr("unknown code page"));
  EXPECT_THAT(lines, HasSubstr("1 files that the guest may have removed stay"));
  EXPECT_THAT(lines, HasSubstr("files written, 0 renamed, 0 files and directories removed"));
  for (const auto& [name, text] : before) EXPECT_EQ(contents(share).at(name), text) << name;
  EXPECT_EQ(contents(share).at("FINE"), "");
  EXPECT_EQ(contents(folder).size(),
            contents(share).size() + 1 + (fs::exists(folder / "guest.img") ? 1 : 0));
}

TEST_F(HostileShare, loops_and_shared_clusters_change_nothing) {
  // The directory's chain leads to its own beginning.
  const std::uint32_t dir = first_cluster("DIR ");
  poke(layout.fat + dir * 4, {static_cast<std::uint8_t>(dir), 0, 0, 0});
  expect_refused("belongs to something else too");
}

TEST_F(HostileShare, directory_that_contains_itself_changes_nothing) {
  add_entry(short_name("LOOP"), 0x10, layout.root, 0);
  expect_refused("belongs to something else too");
}

TEST_F(HostileShare, chain_that_leaves_the_volume_changes_nothing) {
  add_entry(short_name("FAR"), 0x20, 0x0fff'fff0, 1);
  expect_refused("lead to ffffff0h, which is none");
}

TEST_F(HostileShare, chain_to_a_free_cluster_changes_nothing) {
  add_entry(short_name("FREE"), 0x20, layout.clusters, 1);
  expect_refused("lead to 0h, which is none");
}

TEST_F(HostileShare, file_without_its_clusters_is_left_out) {
  add_entry(short_name("SHORT"), 0x20, 0, 4096);
  EXPECT_THAT(finish(), HasSubstr("SHORT: its clusters end before its 4096 bytes do"));
  EXPECT_EQ(contents(share), before);
}

TEST_F(HostileShare, partition_that_was_formatted_anew_changes_nothing) {
  poke(layout.partition + 13, {1});
  expect_refused("the guest formatted the partition anew");
}

TEST_F(HostileShare, partition_table_that_moved_changes_nothing) {
  poke(446 + 8, {0, 9});
  expect_refused("the guest changed the partition table");
}

TEST_F(HostileShare, volume_of_noise_changes_nothing) {
  std::vector<std::uint8_t> noise(64 * 1024);
  for (std::size_t i = 0; i < noise.size(); ++i)
    noise[i] = static_cast<std::uint8_t>(i * 2654435761U >> 13);
  ASSERT_TRUE(disk->write(layout.fat, noise));
  ASSERT_TRUE(disk->write(layout.data, noise));
  expect_refused("damaged file system");
}

TEST_F(WritableShareTest, two_guests_do_not_write_to_one_directory) {
  const auto first = open(End::WriteBack);
  const auto second = WritableShare::open(share, "id", End::WriteBack);
  ASSERT_FALSE(second);
  EXPECT_EQ(exit_code(second.error().kind()), 65);
  EXPECT_THAT(second.error().text(), HasSubstr("another guest writes to this directory"));
  EXPECT_TRUE(open(End::Forget)) << "who writes to memory disturbs nobody";
}

TEST_F(WritableShareTest, leftover_of_a_run_that_was_killed_is_told_at_the_start) {
  fs::create_directory(share / ShareWriter::kStaging);
  const auto disk = WritableShare::open(share, "id", End::WriteBack);
  ASSERT_FALSE(disk);
  EXPECT_THAT(disk.error().text(), HasSubstr("a run ended while it wrote there"));
}

}  // namespace
}  // namespace vmm
