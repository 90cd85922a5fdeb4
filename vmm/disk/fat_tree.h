// What a guest made of a FAT32 volume: every directory entry of it, read by bounds that no content
// can pass. Microsoft, FAT32 File System Specification 1.03.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/disk/fat_volume.h"

namespace vmm {

struct FatEntry {
  std::string name;  // UTF-8; one component that is safe as a name on the host
  bool directory = false;
  std::uint64_t size = 0;
  std::int64_t modified = 0;      // seconds since 1970, the guest's time taken as UTC
  std::vector<FatRun> runs = {};  // of a file: at least as many clusters as its size needs
  std::vector<FatEntry> children = {};
};

struct FatTree {
  FatEntry root;
  // "a/b: why it was left out", in no order; with everything beneath it. At most kMaxRefused.
  static constexpr std::size_t kMaxRefused = 1000;
  std::vector<std::string> refused = {};
};

// Sectors of the disk. False: they could not be read.
using ReadFat = std::function<bool(std::uint64_t offset, std::span<std::uint8_t> data)>;

// Errors (of kind Image) for a volume that cannot be taken as a whole: a chain that leaves the
// volume or meets another, more than 100000 entries. Entries with names that are not safe, or that
// are shorter than they say, are left out and listed.
Result<FatTree> read_fat_tree(const FatLayout& layout, const ReadFat& read);

}  // namespace vmm
