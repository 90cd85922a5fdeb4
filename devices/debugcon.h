// Chip:       debug console port (Bochs' e9h hack; also 402h, where SeaBIOS and OVMF write)
// Source:     iodev/unmapped.cc of Bochs and QEMU's isa-debugcon as the de facto standard
// Implements: a byte written goes to the sink; a read gives e9h, by which guests detect the port
// Leaves out: nothing
// Differs:    a byte that the sink has no room for is dropped and counted: this port cannot wait
#pragma once

#include <cstdint>
#include <string>

#include "vmm/core/byte_stream.h"
#include "vmm/core/device.h"

namespace vmm {

// One byte-wide port.
class Debugcon final : public Device {
 public:
  struct State {
    std::uint64_t dropped = 0;
    bool operator==(const State&) const = default;
  };

  // `out` outlives this; null drops everything, uncounted.
  Debugcon(std::string name, ByteSink* out);

  std::string_view name() const override { return name_; }
  void reset() override { state_ = {}; }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::string name_;
  ByteSink* out_;
  State state_;
};

}  // namespace vmm
