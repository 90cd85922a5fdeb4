// A disk with one FAT32 partition made from a tree of names: which byte of which file is where. Its
// tables are worked out when they are read; only directories are in memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

struct FatNode {
  std::string name;
  bool directory = false;
  std::int64_t modified = 0;  // seconds since 1970, UTC
  std::uint64_t size = 0;     // of a file
  std::size_t file = 0;       // its number, for FatFiles
  std::vector<FatNode> children = {};
};

// Where the bytes of files come from.
class FatFiles {
 public:
  virtual ~FatFiles() = default;
  // `data` lies within the size that the file had in the tree. False: it cannot be read.
  virtual bool read_file(std::size_t file, std::uint64_t offset, std::span<std::uint8_t> data) = 0;
};

// Clusters that follow each other.
struct FatRun {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  bool operator==(const FatRun&) const = default;
};

// Where the parts of a volume are on its disk, in bytes.
struct FatLayout {
  std::uint64_t partition = 0;  // its boot sector
  std::uint64_t fat = 0;        // the first of two tables
  std::uint64_t fat_size = 0;
  std::uint64_t data = 0;  // cluster 2
  std::uint64_t cluster_size = 0;
  std::uint32_t clusters = 0;  // from 2 on
  std::uint32_t root = 2;
};

class FatVolume {
 public:
  static constexpr std::uint64_t kMaxFileSize = 0xffff'ffff;
  static constexpr std::size_t kMaxDirectoryEntries = 65536;  // of 32 bytes; a name takes up to 21

  // The same tree gives the same bytes. Entries are placed by name. Errors of kind Image name the
  // entry, by its path under `path`, and the reason: names that FAT cannot have or cannot tell
  // apart, files beyond 4 GiB, directories with too many entries.
  // `room` bytes stay free, for a guest that adds something.
  static Result<FatVolume> create(FatNode root, const std::string& path, std::uint64_t room = 0);

  std::uint64_t sectors() const { return first_sector_ + partition_sectors_; }
  FatLayout layout() const;
  // Where each of `count` files lies; one that is empty lies nowhere.
  std::vector<FatRun> file_runs(std::size_t count) const;
  // Whole sectors within the disk. False: a file could not be read.
  bool read(std::uint64_t offset, std::span<std::uint8_t> data, FatFiles& files) const;

 private:
  // Clusters that follow each other.
  struct Extent {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    bool directory = false;
    std::size_t index = 0;  // into directories_, or the file's number
    std::uint64_t size = 0;
  };

  std::uint64_t cluster_size() const { return sectors_per_cluster_ * 512u; }
  std::uint64_t fat_offset() const;
  std::uint64_t data_offset() const;
  const Extent* extent_of(std::uint64_t cluster) const;
  std::uint32_t fat_entry(std::uint64_t cluster) const;
  void write_headers();
  std::size_t read_fat(std::uint64_t offset, std::span<std::uint8_t> data) const;
  std::size_t read_data(std::uint64_t offset, std::span<std::uint8_t> data, FatFiles& files,
                        bool& ok) const;

  std::uint32_t first_sector_ = 2048;
  std::uint64_t partition_sectors_ = 0;
  std::uint32_t sectors_per_cluster_ = 8;
  std::uint32_t clusters_ = 0;
  std::uint32_t fat_sectors_ = 0;
  std::uint32_t used_clusters_ = 0;
  std::vector<std::uint8_t> master_;    // the first sector of the disk
  std::vector<std::uint8_t> reserved_;  // the partition's in front of its tables
  std::vector<Extent> extents_;         // by cluster
  std::vector<std::vector<std::uint8_t>> directories_;
};

}  // namespace vmm
