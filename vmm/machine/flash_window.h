// A flash chip where the guest has it: memory that it reads at full speed while the chip shows its
// array, exits while it shows something else.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "devices/pflash.h"

namespace vmm {

// The device that a board maps. Mapping memory costs far more than an exit, and a driver that
// programs goes in and out of the array for each few bytes; so the first command takes the memory
// away at once, and it comes back only when the guest reads the array for a while.
class FlashWindow final : public Device {
 public:
  // Reads of the array, one after the other without a command, that make it memory.
  static constexpr unsigned kReadsToMap = 32;

  // `store` outlives this. `set_memory` makes the window memory (true) or exits (false); it begins
  // as exits. Under the lock of whoever accesses the device.
  FlashWindow(std::string name, FlashStore& store, std::function<void(bool)> set_memory);

  // The guest starts: it reads all of the array.
  void start() { map(true); }

  std::string_view name() const override { return chip_.name(); }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  bool is_memory() const { return memory_; }
  PFlash& chip() { return chip_; }

 private:
  void map(bool memory);

  PFlash chip_;
  std::function<void(bool)> set_memory_;
  bool memory_ = false;
  unsigned reads_ = 0;
};

}  // namespace vmm
