// Disks as guests and users meet them.
#include <gmock/gmock.h>

#include <filesystem>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::size_t kSectorWords = 128;
constexpr std::uint32_t kSectors = 64;

std::uint32_t word_of(std::uint32_t sector, std::size_t word) {
  return sector << 16 | static_cast<std::uint32_t>(word);
}

// What virtio-disk.elf wants to find; with `written` also what it leaves.
std::string image_bytes(bool written = false) {
  std::string bytes;
  for (std::uint32_t sector = 0; sector < kSectors; ++sector)
    for (std::size_t word = 0; word < kSectorWords; ++word) {
      const bool flipped = written && sector >= 8 && sector < 16;
      const std::uint32_t value = flipped ? ~word_of(sector, word) : word_of(sector, word);
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  return bytes;
}

class Disks : public KvmTest, public testing::WithParamInterface<const char*> {
 protected:
  const TempFolder folder;

  RunResult run(const std::string& how, const std::string& disk) {
    return run_guest("virtio-disk.elf", {"--irqchip", GetParam(), "--cpu-policy", "mask",
                                         "--append", how, "--disk", disk});
  }
  static bool lapic_without_isr() {
    return std::string(GetParam()) != "user" && host_backend() == "pvm";
  }
  void expect_success(const std::string& how) {
    const std::string path = folder.write("disk.img", image_bytes());
    const RunResult r = run(how, "raw:" + path);
    EXPECT_EQ(r.code, 0) << how << r.text();
    EXPECT_THAT(r.out, HasSubstr("ok      after a reset it works again"));
    EXPECT_THAT(r.out, Not(HasSubstr("FAILED")));
    EXPECT_EQ(read_text_file(path), image_bytes(true)) << how;
  }
};

TEST_P(Disks, are_read_and_written_by_a_driver_that_looks) {
  expect_success("legacy poll");
  expect_success("modern poll");
}

TEST_P(Disks, interrupt_through_the_8259a) {
  expect_success("legacy pic");
  expect_success("modern pic");
}

TEST_P(Disks, interrupt_through_the_ioapic) {
  if (lapic_without_isr()) GTEST_SKIP() << "kvm_pvm's LAPIC has no ISR: an EOI reaches no IOAPIC";
  expect_success("modern ioapic");
}

TEST_P(Disks, interrupt_by_message) {
  expect_success("legacy msix");
  expect_success("modern msix");
}

TEST_P(Disks, that_are_read_only_stay_as_they_are) {
  const std::string path = folder.write("disk.img", image_bytes());
  const RunResult r = run("modern poll read-only", "raw:" + path + ",ro");
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_EQ(read_text_file(path), image_bytes());
}

INSTANTIATE_TEST_SUITE_P(Each, Disks, testing::Values("user", "split", "kernel"),
                         [](const auto& chosen) { return std::string(chosen.param); });

class DiskOptions : public KvmTest {
 protected:
  const TempFolder folder;
};

TEST_F(DiskOptions, the_outcome_tells_of_each_disk) {
  const std::string path = folder.write("disk.img", image_bytes());
  const std::string outcome = folder.file("outcome.json");
  const RunResult r =
      run_guest("virtio-disk.elf", {"--append", "legacy poll", "--disk", "raw:" + path, "--disk",
                                    "raw:" + path + "2,ro", "--outcome-json", outcome});
  EXPECT_EQ(r.code, 65) << r.text();
  EXPECT_THAT(r.err, HasSubstr("disk.img2"));
  folder.write("disk.img2", image_bytes());
  const RunResult again =
      run_guest("virtio-disk.elf", {"--append", "legacy poll", "--disk", "raw:" + path, "--disk",
                                    "raw:" + path + "2,ro", "--outcome-json", outcome});
  EXPECT_EQ(again.code, 0) << again.text();
  const auto disks = read_json_file(outcome)["machine"]["disks"];
  ASSERT_EQ(disks.size(), 2u);
  EXPECT_EQ(disks[0]["disk"], "raw:" + path);
  EXPECT_GE(disks[0]["failed_requests"].get<int>(), 5);
  EXPECT_EQ(disks[0]["problem"], nullptr) << "the driver has reset it";
  EXPECT_EQ(disks[1]["failed_requests"], 0);
}

TEST_F(DiskOptions, that_cannot_be_are_refused_before_the_guest_starts) {
  const std::string odd = folder.write("odd.img", std::string(513, 'x'));
  const auto refused = [&](const std::string& disk, int code, const std::string& text) {
    const RunResult r = run_guest("minimal.elf", {"--disk", disk});
    EXPECT_EQ(r.code, code) << disk << r.text();
    EXPECT_THAT(r.err, HasSubstr(text));
    EXPECT_EQ(r.out, "");
    EXPECT_EQ(run_guest("minimal.elf", {"--dry-run", "--disk", disk}).code, code) << disk;
  };
  refused("raw:" + odd, 65, "odd.img: its 513 bytes are no whole number of sectors of 512");
  refused("raw:" + folder.file("none"), 65, "ENOENT");
  // A lab cannot bring it in, and says so itself.
  if (test_lab().empty()) refused("raw:/dev/null", 65, "neither");
  refused("raww:" + odd, 64, "did you mean raw?");
  refused(odd, 64, "formats are never guessed");
}

TEST_F(DiskOptions, an_image_that_another_guest_writes_is_refused) {
  if (!test_lab().empty()) GTEST_SKIP() << "two guests at once are two labs";
  const std::string path = folder.write("disk.img", image_bytes());
  VmmProcess first({.arguments = {"run", guest_path("spin.elf"), "--disk", "raw:" + path}});
  ASSERT_TRUE(first.wait_until_running());
  const RunResult second = run_guest("minimal.elf", {"--disk", "raw:" + path});
  EXPECT_EQ(second.code, 65) << second.text();
  EXPECT_THAT(second.err, HasSubstr("disk.img: another guest uses it"));
  first.kill(SIGTERM);
  EXPECT_EQ(first.finish().code, 128 + SIGTERM);
  EXPECT_EQ(run_guest("minimal.elf", {"--disk", "raw:" + path}).code, 0);
}

class Shares : public KvmTest {
 protected:
  const TempFolder folder;
};

TEST_F(Shares, a_guest_reads_the_files_of_a_directory) {
  folder.write("hello.txt", "hello from the host\n");
  folder.write("other", std::string(5000, 'a'));
  const RunResult r = run_guest("share.elf", {"--share", folder.file("."), "--cpu-policy", "mask"});
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("HELLO   TXT: hello from the host\n20 bytes"));
  EXPECT_THAT(r.out, HasSubstr("OTHER      : 5000 bytes, sum 485000\n"));
}

class WritableShares : public Shares {
 protected:
  void SetUp() override {
    Shares::SetUp();
    folder.write("CHANGED.TXT", std::string(2000, 'b'));
    folder.write("GONE.TXT", "gone");
    folder.write("OLD.TXT", "moves");
    folder.write("hello.txt", "hello\n");
  }
  RunResult run(const std::string& how) {
    return run_guest("share.elf", {"--share", folder.file(".") + how, "--cpu-policy", "mask"});
  }
  std::string text(const std::string& name) { return read_text_file(folder.file(name)); }
  bool exists(const std::string& name) { return std::filesystem::exists(folder.file(name)); }
};

TEST_F(WritableShares, in_memory_leave_the_directory_alone) {
  const RunResult r = run(",overlay");
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("ok      it was written"));
  EXPECT_EQ(text("CHANGED.TXT"), std::string(2000, 'b'));
  EXPECT_TRUE(exists("GONE.TXT") && exists("OLD.TXT"));
  EXPECT_FALSE(exists("NEW.TXT") || exists("MADE"));
  EXPECT_THAT(r.err, Not(HasSubstr("--share")));
}

TEST_F(WritableShares, are_brought_back_when_the_run_has_ended) {
  if (!test_lab().empty()) GTEST_SKIP() << "a lab does not bring a directory back";
  const RunResult r = run(",rw");
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.err, HasSubstr(": 1 files written, 1 renamed, 1 files and directories removed, 1 "
                               "directories made\n"));
  EXPECT_EQ(text("CHANGED.TXT"), std::string(512, 'g') + std::string(1488, 'b'));
  EXPECT_FALSE(exists("GONE.TXT") || exists("OLD.TXT"));
  EXPECT_EQ(text("NEW.TXT"), "moves");
  EXPECT_TRUE(std::filesystem::is_directory(folder.file("MADE")));
  EXPECT_EQ(text("hello.txt"), "hello\n");
}

TEST_F(Shares, that_are_written_to_are_refused_in_a_lab) {
  const RunResult r = run_vmm({.arguments = {"run", "--on", "svm", guest_path("minimal.elf"),
                                             "--share", folder.file(".") + ",rw"}});
  EXPECT_EQ(r.code, 64) << r.text();
  EXPECT_THAT(r.err, HasSubstr("--share DIR,rw: a lab does not bring a directory back"));
}

TEST_F(Shares, that_cannot_be_a_disk_are_refused_with_file_and_reason) {
  folder.write("a:b", "");
  const RunResult name = run_guest("minimal.elf", {"--share", folder.file(".")});
  EXPECT_EQ(name.code, 65) << name.text();
  EXPECT_THAT(name.err, HasSubstr("--share: "));
  EXPECT_THAT(name.err, HasSubstr("/a:b: its name has a :, which FAT names cannot have"));
  const RunResult missing = run_guest("minimal.elf", {"--share", folder.file("none")});
  EXPECT_EQ(missing.code, 65) << missing.text();
  EXPECT_THAT(missing.err, HasSubstr("ENOENT"));
}

}  // namespace
}  // namespace vmm
