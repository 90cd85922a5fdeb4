// For tests: a directory to share, and the tools that others use on FAT.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "vmm/core/block_backend.h"

namespace vmm {

class ShareRig : public testing::Test {
 protected:
  static constexpr std::uint64_t kPartition = 2048 * kSectorSize;

  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "share-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    share = folder / "share";
    std::filesystem::create_directory(share);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  void write(const std::filesystem::path& path, const std::string& text) const {
    std::filesystem::create_directories((share / path).parent_path());
    std::ofstream(share / path, std::ios::binary) << text;
  }

  // Path -> contents of all that is beneath `top`; directories end in "/", links tell where to.
  static std::map<std::string, std::string> contents(const std::filesystem::path& top) {
    std::map<std::string, std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(top)) {
      const std::string name = std::filesystem::relative(entry.path(), top).string();
      if (entry.is_symlink()) {
        all[name] = "-> " + std::filesystem::read_symlink(entry.path()).string();
      } else if (entry.is_directory()) {
        all[name + "/"] = "";
      } else {
        std::ostringstream text;
        text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
        all[name] = text.str();
      }
    }
    return all;
  }

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
  static bool has_mtools() { return runs("command -v mcopy"); }

  // Half a gigabyte is compared in each test: one byte after the other takes half a minute under
  // ASan.
  static bool same(std::span<const std::uint8_t> left, std::span<const std::uint8_t> right) {
    return left.size() == right.size() && std::memcmp(left.data(), right.data(), left.size()) == 0;
  }

  // The partition alone, in a file with holes where it is empty.
  static void dump(BlockBackend& disk, const std::filesystem::path& path) {
    std::ofstream image(path, std::ios::binary);
    const std::vector<std::uint8_t> empty(64 * 1024);
    std::vector<std::uint8_t> data(empty.size());
    const std::uint64_t size = disk.geometry().sectors * kSectorSize;
    for (std::uint64_t at = kPartition; at < size; at += data.size()) {
      const auto part = std::span(data).first(
          static_cast<std::size_t>(std::min<std::uint64_t>(data.size(), size - at)));
      ASSERT_TRUE(disk.read(at, part));
      if (same(part, std::span(empty).first(part.size()))) continue;
      image.seekp(static_cast<std::streamoff>(at - kPartition));
      image.write(reinterpret_cast<const char*>(part.data()),
                  static_cast<std::streamsize>(part.size()));
    }
    image.close();
    std::filesystem::resize_file(path, size - kPartition);
  }

  // Writes the sectors that differ in `path` from what the disk has: what a guest did to it.
  static void apply(const std::filesystem::path& path, BlockBackend& disk) {
    std::ifstream image(path, std::ios::binary);
    std::vector<std::uint8_t> now(64 * 1024), then(now.size());
    const std::uint64_t size = disk.geometry().sectors * kSectorSize;
    for (std::uint64_t at = kPartition; at < size; at += now.size()) {
      const std::size_t count =
          static_cast<std::size_t>(std::min<std::uint64_t>(now.size(), size - at));
      image.read(reinterpret_cast<char*>(now.data()), static_cast<std::streamsize>(count));
      ASSERT_TRUE(disk.read(at, std::span(then).first(count)));
      if (same(std::span(now).first(count), std::span(then).first(count))) continue;
      for (std::size_t sector = 0; sector < count; sector += kSectorSize) {
        const auto part = std::span<const std::uint8_t>(now).subspan(sector, kSectorSize);
        if (!same(part, std::span(then).subspan(sector, kSectorSize))) {
          ASSERT_TRUE(disk.write(at + sector, part));
        }
      }
    }
  }

  std::filesystem::path folder, share;
};

}  // namespace vmm
