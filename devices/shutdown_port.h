// Chip:       two ways to switch a PC off: the ACPI PM1a control register (604h on QEMU's i440FX
//             board) and the Bochs shutdown port (8900h)
// Source:     ACPI 6.4 section 4.8.3.2.1, Table 4.17; QEMU's \_S5 (SLP_TYP 0); Bochs' unmapped.cc
// Implements: SLP_EN with SLP_TYP 0 powers off; the string "Shutdown" written byte by byte does too
// Leaves out: every other sleep state, SCI_EN, the event registers (acpi_pm will have them)
// Differs:    PM1a reads as 0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// PM1a_CNT_BLK: 2 ports, written as a word, as a dword whose upper half is ignored (map 4 ports for
// that) or byte by byte.
class ShutdownPort final : public Device {
 public:
  struct State {
    std::uint16_t pm1a_cnt = 0;  // as written, without SLP_EN
    bool operator==(const State&) const = default;
  };

  ShutdownPort(std::string name, std::function<void()> on_power_off);

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
