// Reads a FAT32 disk as a guest would, by the specification and with nothing of the code that made
// it: for tests.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {

class FatReader {
 public:
  using ReadSector = std::function<std::vector<std::uint8_t>(std::uint64_t sector)>;
  // Throws std::runtime_error with what is wrong.
  explicit FatReader(ReadSector read) : read_(std::move(read)) {
    const auto master = read_(0);
    need(load<std::uint16_t>(master, 510) == 0xaa55, "no partition table");
    need(master[446 + 4] == 0x0c, "no FAT32 partition");
    start_ = load<std::uint32_t>(master, 446 + 8);
    const auto boot = read_(start_);
    need(load<std::uint16_t>(boot, 510) == 0xaa55 && load<std::uint16_t>(boot, 11) == 512,
         "no boot sector");
    per_cluster_ = boot[13];
    reserved_ = load<std::uint16_t>(boot, 14);
    fat_sectors_ = load<std::uint32_t>(boot, 36);
    root_ = load<std::uint32_t>(boot, 44);
    data_ = start_ + reserved_ + boot[16] * fat_sectors_;
    const auto sectors = load<std::uint32_t>(boot, 32);
    need(sectors == load<std::uint32_t>(master, 446 + 12), "two sizes of the partition");
    need((sectors - (data_ - start_)) / per_cluster_ >= 65525, "so few clusters are FAT16");
  }

  // Path -> contents; directories end in "/".
  std::map<std::string, std::string> files() {
    std::map<std::string, std::string> all;
    list(root_, "", all, true);
    return all;
  }

 private:
  static void need(bool condition, const std::string& problem) {
    if (!condition) throw std::runtime_error(problem);
  }
  std::uint32_t next(std::uint32_t cluster) {
    std::uint32_t entries[2];
    for (std::uint32_t copy = 0; copy < 2; ++copy)
      entries[copy] =
          load<std::uint32_t>(read_(start_ + reserved_ + copy * fat_sectors_ + cluster / 128),
                              cluster % 128 * 4) &
          0x0fff'ffff;
    need(entries[0] == entries[1], "the two tables differ");
    return entries[0];
  }
  std::string chain(std::uint32_t cluster) {
    std::string bytes;
    while (cluster < 0x0fff'fff8) {
      need(cluster >= 2, "a chain leads to a free cluster");
      for (std::uint32_t i = 0; i < per_cluster_; ++i) {
        const auto sector = read_(data_ + std::uint64_t{cluster - 2} * per_cluster_ + i);
        bytes.append(sector.begin(), sector.end());
      }
      cluster = next(cluster);
    }
    return bytes;
  }
  static void append_utf8(std::string& text, std::uint32_t point) {
    if (point < 0x80) {
      text += static_cast<char>(point);
    } else if (point < 0x800) {
      text += static_cast<char>(0xc0 | point >> 6);
      text += static_cast<char>(0x80 | (point & 0x3f));
    } else {
      text += static_cast<char>(0xe0 | point >> 12);
      text += static_cast<char>(0x80 | (point >> 6 & 0x3f));
      text += static_cast<char>(0x80 | (point & 0x3f));
    }
  }
  static std::string short_name(std::span<const std::uint8_t> entry) {
    std::string name(entry.begin(), entry.begin() + 8),
        extension(entry.begin() + 8, entry.begin() + 11);
    while (name.ends_with(' ')) name.pop_back();
    while (extension.ends_with(' ')) extension.pop_back();
    return extension.empty() ? name : name + "." + extension;
  }

  void list(std::uint32_t cluster, const std::string& path, std::map<std::string, std::string>& all,
            bool is_root) {
    const std::string bytes = chain(cluster);
    const std::span<const std::uint8_t> data(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                             bytes.size());
    std::map<unsigned, std::vector<std::uint16_t>> parts;
    std::uint8_t checksum = 0;
    for (std::size_t at = 0; at < data.size() && data[at] != 0; at += 32) {
      const auto entry = data.subspan(at, 32);
      if (entry[11] == 0x0f) {
        std::vector<std::uint16_t>& part = parts[entry[0] & 0x3fu];
        for (const unsigned place : {1u, 3u, 5u, 7u, 9u, 14u, 16u, 18u, 20u, 22u, 24u, 28u, 30u})
          part.push_back(load<std::uint16_t>(entry, place));
        checksum = entry[13];
        continue;
      }
      if ((entry[11] & 0x08) != 0) continue;
      std::string name = short_name(entry);
      if (!parts.empty()) {
        std::uint8_t sum = 0;
        for (std::size_t i = 0; i < 11; ++i)
          sum = static_cast<std::uint8_t>((sum >> 1 | sum << 7) + entry[i]);
        need(sum == checksum, "a long name belongs to another entry");
        name.clear();
        for (const auto& [number, units] : parts)
          for (const std::uint16_t unit : units)
            if (unit != 0 && unit != 0xffff) append_utf8(name, unit);
        parts.clear();
      }
      const std::uint32_t first =
          load<std::uint16_t>(entry, 26) | std::uint32_t{load<std::uint16_t>(entry, 20)} << 16;
      const auto size = load<std::uint32_t>(entry, 28);
      if (name == "." || name == "..") {
        need(!is_root, "the root has no .");
        continue;
      }
      if ((entry[11] & 0x10) != 0) {
        all[path + name + "/"] = "";
        list(first, path + name + "/", all, false);
      } else {
        std::string contents = first != 0 ? chain(first) : "";
        need(contents.size() >= size, "a file is shorter than it says");
        contents.resize(size);
        all[path + name] = contents;
      }
    }
  }

  ReadSector read_;
  std::uint64_t start_ = 0, data_ = 0;
  std::uint32_t per_cluster_ = 0, reserved_ = 0, fat_sectors_ = 0, root_ = 0;
};

}  // namespace vmm
