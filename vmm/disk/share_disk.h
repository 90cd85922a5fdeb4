// A directory of the host as a read-only disk with a FAT32 partition. What is in it is listed once;
// bytes of files are read when the guest reads them.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/core/block_backend.h"
#include "vmm/disk/fat_volume.h"
#include "vmm/disk/shared_tree.h"

namespace vmm {

// Everything is opened beneath the directory, by openat2(2); a symbolic link must lead to a file
// there. Files keep the size that they had when they were listed: one that is shorter by then gives
// I/O errors where it ends, one that is longer is cut.
class ShareDisk final : public BlockBackend, private FatFiles {
 public:
  static constexpr std::size_t kMaxEntries = 100'000;

  // Errors of kind Image name the file and the reason: what cannot be read, is neither file nor
  // directory, leads out of the directory, or cannot be on FAT.
  // `room` bytes of the volume stay free, for a guest that adds something to what lies over this.
  static Result<std::unique_ptr<ShareDisk>> open(const std::string& path, std::string id,
                                                 std::uint64_t room = 0);

  const BlockGeometry& geometry() const override { return geometry_; }
  bool read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  bool write(std::uint64_t, std::span<const std::uint8_t>) override { return false; }
  bool flush() override { return true; }

  const Fd& directory() const { return directory_; }
  const SharedTree& tree() const { return tree_; }

 private:
  ShareDisk(Fd directory, SharedTree tree, FatVolume volume, std::string id);
  bool read_file(std::size_t file, std::uint64_t offset, std::span<std::uint8_t> data) override;
  int descriptor(std::size_t file);

  struct OpenFile {
    Fd fd;
    std::size_t file = 0;
    std::uint64_t used = 0;
  };

  Fd directory_;
  SharedTree tree_;
  FatVolume volume_;
  BlockGeometry geometry_;
  std::array<OpenFile, 8> open_;
  std::uint64_t uses_ = 0;
};

}  // namespace vmm
