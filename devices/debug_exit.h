// Chip:       debug-exit port (QEMU's isa-debug-exit), at f4h on our board
// Source:     hw/misc/debugexit.c of QEMU 7.2 as the de facto standard; kvm-unit-tests relies on it
// Implements: a write of 1, 2 or 4 bytes ends the run with the value written
// Leaves out: nothing
// Differs:    the value is handed on as it is; how it becomes an exit code is the machine's
// business
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// 4 ports; any width of 1, 2 or 4 bytes within them. Reads give 0.
class DebugExit final : public Device {
 public:
  struct State {
    std::optional<std::uint64_t> value;  // the last value written
    bool operator==(const State&) const = default;
  };

  // `on_exit` gets the written value; it may be empty.
  DebugExit(std::string name, std::function<void(std::uint64_t value)> on_exit);

  std::string_view name() const override { return name_; }
  void reset() override { state_ = {}; }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::string name_;
  std::function<void(std::uint64_t)> on_exit_;
  State state_;
};

}  // namespace vmm
