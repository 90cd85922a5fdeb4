// A bounded queue of bytes between a device (under the board's lock) and the event loop. Neither
// side ever waits for the other.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "vmm/core/byte_stream.h"

namespace vmm {

class ByteRing final : public ByteSink, public ByteSource {
 public:
  // `changed` is called (outside the ring's lock) when bytes arrive in an empty ring or leave a
  // full one; it must not block.
  ByteRing(std::size_t capacity, std::function<void()> changed)
      : bytes_(capacity), changed_(std::move(changed)) {}

  bool put(std::uint8_t byte) override {
    bool was_empty = false;
    {
      const std::lock_guard lock(mutex_);
      if (count_ == bytes_.size()) return false;
      was_empty = count_ == 0;
      bytes_[(first_ + count_++) % bytes_.size()] = byte;
    }
    if (was_empty) changed_();
    return true;
  }

  std::optional<std::uint8_t> get() override {
    std::uint8_t byte = 0;
    bool was_full = false;
    {
      const std::lock_guard lock(mutex_);
      if (count_ == 0) return std::nullopt;
      was_full = count_ == bytes_.size();
      byte = bytes_[first_];
      drop(1);
    }
    if (was_full) changed_();
    return byte;
  }

  // Copies up to out.size() of the oldest bytes without taking them.
  std::size_t peek(std::span<std::uint8_t> out) const {
    const std::lock_guard lock(mutex_);
    const std::size_t n = std::min(out.size(), count_);
    for (std::size_t i = 0; i < n; ++i) out[i] = bytes_[(first_ + i) % bytes_.size()];
    return n;
  }
  // Takes the `n` oldest bytes away (no `changed`: the caller is the one who would be told).
  void consume(std::size_t n) {
    const std::lock_guard lock(mutex_);
    drop(std::min(n, count_));
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  std::size_t room() const {
    const std::lock_guard lock(mutex_);
    return bytes_.size() - count_;
  }

 private:
  void drop(std::size_t n) {
    first_ = (first_ + n) % bytes_.size();
    count_ -= n;
  }

  mutable std::mutex mutex_;
  std::vector<std::uint8_t> bytes_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::function<void()> changed_;
};

}  // namespace vmm
