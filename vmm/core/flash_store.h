// What lies behind a flash chip: its bytes, which a write may fail to reach.
#pragma once

#include <cstdint>
#include <span>

namespace vmm {

class FlashStore {
 public:
  virtual ~FlashStore() = default;
  // All of them, as they are now; the span stays the same.
  virtual std::span<const std::uint8_t> bytes() const = 0;
  // Whether write() has a chance.
  virtual bool is_writable() const = 0;
  // Puts `data` at `offset`, within the bytes. False: the store is read-only or an I/O error; the
  // bytes are as they were.
  virtual bool write(std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
};

}  // namespace vmm
