// Places a tree of names on a FAT volume and writes its directories.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/disk/fat_volume.h"

namespace vmm {

class FatBuilder {
 public:
  struct Placed {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    bool directory = false;
    std::size_t index = 0;
    std::uint64_t size = 0;
  };
  struct Result {
    std::vector<Placed> items;  // by cluster
    std::vector<std::vector<std::uint8_t>> directories;
    std::uint32_t clusters = 0;
  };

  // `path` is the root's, for errors.
  explicit FatBuilder(std::string path) : path_(std::move(path)) {}

  // Sorts every directory by name and refuses what FAT cannot have.
  vmm::Result<void> check(FatNode& root) const;
  // How many clusters of that size a checked tree takes.
  std::uint64_t clusters(const FatNode& root, std::uint64_t cluster_size) const;
  // A directory before what is in it, in the order of their names.
  Result build(const FatNode& root, std::uint32_t first_cluster, std::uint64_t cluster_size,
               std::string_view label) const;

 private:
  struct Plan;
  vmm::Result<void> check(FatNode& directory, const std::string& path, unsigned depth) const;

  std::string path_;
};

}  // namespace vmm
