// Chip:       pc-testdev, a device that tests of hypervisors talk to
// Source:     QEMU's hw/misc/pc-testdev.c, as kvm-unit-tests use it
// Implements: 4 bytes of storage (E0h, and byte by byte at E8h), a page to unmap and map again
// (E4h),
//             24 interrupt lines (2000h), 64 KiB of storage behind memory accesses (FF000000h)
// Leaves out: nothing
// Differs:    nothing
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "vmm/core/device.h"
#include "vmm/core/irq.h"

namespace vmm {

// Offset 0: storage, 1, 2 or 4 bytes; 4: page to flush, 4 bytes; 8: the same storage, byte by byte;
// 20h-37h: interrupt lines, 1 byte each; 10000h-1FFFFh: memory, any width.
class PcTestdev final : public Device {
 public:
  static constexpr unsigned kLines = 24;
  static constexpr std::uint64_t kLinesOffset = 0x20;
  static constexpr std::uint64_t kMemoryOffset = 0x10000;
  static constexpr std::uint64_t kMemorySize = 64_KiB;

  struct State {
    std::uint32_t storage = 0;
    std::uint32_t lines = 0;           // bit n: line n is high
    std::vector<std::uint8_t> memory;  // empty, which means zeroes, until the first write

    bool operator==(const State&) const = default;
  };

  // Line n is that of GSI n. `flush_page` gets the address of the page whose host mapping is to be
  // dropped and made anew, a multiple of 4 KiB of which nothing else was checked; it may be empty.
  PcTestdev(std::string name, std::array<IrqLine, kLines> lines,
            std::function<void(Gpa)> flush_page);

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::string name_;
  std::array<IrqLine, kLines> lines_;
  std::function<void(Gpa)> flush_page_;
  State state_;
};

}  // namespace vmm
