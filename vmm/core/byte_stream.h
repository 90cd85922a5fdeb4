// Where a device's bytes go to and come from: bounded, never blocking.
#pragma once

#include <cstdint>
#include <optional>

namespace vmm {

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  // Takes the byte, or returns false when there is no room now; the device keeps the byte and tries
  // again at its next advance().
  virtual bool put(std::uint8_t byte) = 0;
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next byte, or nothing now.
  virtual std::optional<std::uint8_t> get() = 0;
};

}  // namespace vmm
