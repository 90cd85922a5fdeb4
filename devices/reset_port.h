// Chip:       reset control register RST_CNT (cf9h)
// Source:     Intel ICH10 data sheet (319973), section 13.7.5
// Implements: RST_CPU (bit 2) going from 0 to 1 resets the machine; SYS_RST and FULL_RST are kept
// Leaves out: the difference between INIT, hard and full reset
// Differs:    every kind resets the whole machine
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// One byte-wide port in the middle of PCI's configuration address at cf8h, which only dwords reach.
class ResetPort final : public Device {
 public:
  struct State {
    std::uint8_t rst_cnt = 0;
    bool operator==(const State&) const = default;
  };

  ResetPort(std::string name, std::function<void()> on_reset);

  std::string_view name() const override { return name_; }
  void reset() override { state_ = {}; }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::string name_;
  std::function<void()> on_reset_;
  State state_;
};

}  // namespace vmm
