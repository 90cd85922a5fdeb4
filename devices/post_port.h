// Chip:       the POST code latch (port 80h)
// Source:     Intel ICH10 data sheet (319973), section 5.4.1.4: ports 80h to 8Fh of the DMA page
//             registers, of which 80h is decoded for the POST card as well
// Implements: a byte that is kept and read back. Firmware leaves progress codes in it; kernels
// write
//             and read it to wait about a microsecond
// Leaves out: the DMA page registers behind it
// Differs:    accesses take as long as an exit takes
#pragma once

#include <cstdint>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// One byte-wide port.
class PostPort final : public Device {
 public:
  struct State {
    std::uint8_t code = 0;
    bool operator==(const State&) const = default;
  };

  explicit PostPort(std::string name) : name_(std::move(name)) {}

  std::string_view name() const override { return name_; }
  void reset() override { state_ = {}; }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::string name_;
  State state_;
};

}  // namespace vmm
