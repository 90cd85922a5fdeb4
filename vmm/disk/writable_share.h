// A shared directory that the guest writes to: in memory while it runs, and on request brought back
// to the directory when it has ended.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/disk/overlay_disk.h"
#include "vmm/disk/share_disk.h"

namespace vmm {

class WritableShare final : public BlockBackend {
 public:
  enum class End { Forget, WriteBack };

  // Errors as ShareDisk::open() has them. With WriteBack the directory is locked against another
  // guest that would write to it (flock(2)), and must be writable.
  static Result<std::unique_ptr<BlockBackend>> open(const std::string& path, std::string id,
                                                    End end);

  const BlockGeometry& geometry() const override { return overlay_->geometry(); }
  bool read(std::uint64_t offset, std::span<std::uint8_t> data) override {
    return overlay_->read(offset, data);
  }
  bool write(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return overlay_->write(offset, data);
  }
  bool flush() override { return true; }
  std::vector<std::string> finish() override;

 private:
  WritableShare(ShareDisk& below, std::unique_ptr<OverlayDisk> overlay, End end)
      : below_(below), overlay_(std::move(overlay)), end_(end) {}

  ShareDisk& below_;  // the overlay's
  std::unique_ptr<OverlayDisk> overlay_;
  End end_;
};

}  // namespace vmm
