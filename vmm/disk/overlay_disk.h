// A disk that can be written over one that cannot: what the guest writes is kept in memory, up to a
// bound that was set aside before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/base/units.h"
#include "vmm/core/block_backend.h"

namespace vmm {

class OverlayDisk final : public BlockBackend {
 public:
  // Memory that nothing was written to costs nothing.
  static constexpr std::uint64_t kMost = 256_MiB;

  // A Host error when the host cannot set `most` bytes aside (a multiple of 4 KiB).
  static Result<std::unique_ptr<OverlayDisk>> create(std::unique_ptr<BlockBackend> below,
                                                     std::uint64_t most = kMost);

  const BlockGeometry& geometry() const override { return geometry_; }
  bool read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  // False: the memory is full.
  bool write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  bool flush() override { return true; }
  std::vector<std::string> finish() override;

  // Whether a part of [offset, offset+size) was written, sectors counted whole.
  bool is_written(std::uint64_t offset, std::uint64_t size) const;
  // As if nothing had been written.
  bool read_below(std::uint64_t offset, std::span<std::uint8_t> data) {
    return below_->read(offset, data);
  }
  std::uint64_t refused_writes() const { return refused_; }

 private:
  static constexpr std::uint64_t kChunk = 4_KiB;
  static constexpr unsigned kSectors = kChunk / kSectorSize;
  // An entry of a hash table with open addressing; nothing is ever taken out.
  struct Entry {
    std::uint64_t key = 0;  // the chunk's number and 1; 0: empty
    std::uint32_t slot = 0;
    std::uint32_t written = 0;  // a bit for each of its sectors
  };

  OverlayDisk(std::unique_ptr<BlockBackend> below, Mapping memory, Mapping table);
  std::span<Entry> table() const;
  Entry& entry_for(std::uint64_t chunk) const;
  // The bytes of the sector at `offset`; empty when it was not written.
  std::span<std::uint8_t> sector(std::uint64_t offset) const;

  std::unique_ptr<BlockBackend> below_;
  BlockGeometry geometry_;
  Mapping memory_;
  Mapping table_;
  std::uint32_t used_ = 0;  // chunks of memory_
  std::uint64_t refused_ = 0;
};

}  // namespace vmm
