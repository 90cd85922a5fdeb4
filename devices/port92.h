// Chip:       system control port A (92h), as the PS/2 introduced it
// Source:     Intel ICH10 data sheet (319973), section 13.7.1
// Implements: INIT_NOW (bit 0, fast reset), ALT_A20_GATE (bit 1, kept and read back)
// Leaves out: masking of address line 20: it is always open, as on every machine since 2008
// Differs:    INIT_NOW resets the whole machine instead of sending INIT to the processors
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// One byte-wide port.
class Port92 final : public Device {
 public:
  struct State {
    std::uint8_t value = 0x02;  // A20 open, as a BIOS leaves it
    bool operator==(const State&) const = default;
  };

  Port92(std::string name, std::function<void()> on_reset);

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
