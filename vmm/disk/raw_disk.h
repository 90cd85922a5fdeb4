// A file, or a block device, whose bytes are the disk's.
#pragma once

#include <memory>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/core/block_backend.h"

namespace vmm {

class RawDisk final : public BlockBackend {
 public:
  // Locked as long as it is open: whoever writes is alone, several may read (flock(2), as far as
  // the file system knows it). Errors of kind Image.
  static Result<std::unique_ptr<BlockBackend>> open(const std::string& path, bool read_only,
                                                    std::string id);

  const BlockGeometry& geometry() const override { return geometry_; }
  bool read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  bool write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  bool flush() override;

 private:
  RawDisk(Fd fd, BlockGeometry geometry) : fd_(std::move(fd)), geometry_(std::move(geometry)) {}

  Fd fd_;
  BlockGeometry geometry_;
};

}  // namespace vmm
