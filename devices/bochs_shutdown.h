// Chip:       the Bochs shutdown port (8900h)
// Source:     Bochs' unmapped.cc
// Implements: the string "Shutdown", written byte by byte, powers off
// Leaves out: nothing
// Differs:    nothing
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// One byte-wide, write-only port.
class BochsShutdownPort final : public Device {
 public:
  struct State {
    std::uint8_t matched = 0;  // characters of "Shutdown" seen so far
    bool operator==(const State&) const = default;
  };

  BochsShutdownPort(std::string name, std::function<void()> on_power_off);

  std::string_view name() const override { return name_; }
  void reset() override { state_ = {}; }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::string name_;
  std::function<void()> on_power_off_;
  State state_;
};

}  // namespace vmm
