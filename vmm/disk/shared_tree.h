// A directory of the host as it was when it was listed, and where its files lie on the volume made
// of it.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

#include "vmm/disk/fat_volume.h"

namespace vmm {

// A file as it was when it was listed.
struct SharedFile {
  std::string path;  // beneath the directory
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  timespec modified{};
  unsigned mode = 0644;
  bool link = false;  // a symbolic link that leads to it
};

struct SharedTree {
  std::vector<SharedFile> files;         // by their numbers on the volume
  std::vector<std::string> directories;  // each before those in it
  std::vector<FatRun> runs;              // of the files
  FatLayout layout;
};

}  // namespace vmm
