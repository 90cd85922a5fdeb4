// What lies behind a disk: bytes in sectors, which may block whoever asks for them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace vmm {

constexpr std::uint64_t kSectorSize = 512;

// What a disk tells about itself; it never changes.
struct BlockGeometry {
  std::uint64_t sectors = 0;
  bool read_only = false;
  std::string id;  // at most 20 bytes
};

// Calls come from one thread at a time, without any lock, and may take as long as they like.
// Offsets and sizes are whole sectors within the geometry.
class BlockBackend {
 public:
  virtual ~BlockBackend() = default;
  virtual const BlockGeometry& geometry() const = 0;
  // False: an I/O error; what was moved by then is undefined.
  virtual bool read(std::uint64_t offset, std::span<std::uint8_t> data) = 0;
  virtual bool write(std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
  // What was written before outlives the host.
  virtual bool flush() = 0;
  // Once, when no request comes any more: what is left to do, and what the user has to know, as
  // sentences without the disk's name.
  virtual std::vector<std::string> finish() { return {}; }
};

}  // namespace vmm
