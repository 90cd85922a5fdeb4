// For tests: a sink with a set amount of room and a source that is filled by hand.
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "vmm/core/byte_stream.h"

namespace vmm {

class FakeSink final : public ByteSink {
 public:
  std::string text;
  std::size_t room = 1 << 20;

  bool put(std::uint8_t byte) override {
    if (room == 0) return false;
    --room;
    text += static_cast<char>(byte);
    return true;
  }
};

class FakeSource final : public ByteSource {
 public:
  std::deque<std::uint8_t> bytes;

  void type(std::string_view text) { bytes.insert(bytes.end(), text.begin(), text.end()); }
  std::optional<std::uint8_t> get() override {
    if (bytes.empty()) return std::nullopt;
    const std::uint8_t byte = bytes.front();
    bytes.pop_front();
    return byte;
  }
};

}  // namespace vmm
