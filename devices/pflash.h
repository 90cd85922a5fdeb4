// Chip:       parallel NOR flash with a common flash interface, 8 bits wide, blocks of 4 KiB
// Source:     Intel 28F320J3 data sheet (290667); JEDEC JESD68.01 (CFI), JEP137B; the commands that
//             edk2's QemuFlash.c and Linux' cfi_cmdset_0001 send
// Implements: read array, status, identifier and query; clear status; byte program (10h, 40h),
//             block erase, write to buffer of 32 bytes; bits go from 1 to 0 by programming and back
//             by erasing
// Leaves out: suspend (operations take no time), block locks, protection registers
// Differs:    blocks of 4 KiB, as OVMF's variables want. Clear status clears SR.7 too, and it
//             comes back with the next program or erase: OVMF tells flash from ROM by that, as with
//             QEMU. Wide accesses are one cycle: the command is in the low byte, programming takes
//             all bytes, and status reads the same in each. The size in the query table is rounded
//             up to a power of two; the number of blocks is exact.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "vmm/core/device.h"
#include "vmm/core/flash_store.h"

namespace vmm {

class PFlash final : public Device {
 public:
  static constexpr std::uint64_t kBlockSize = 0x1000;
  static constexpr std::size_t kBufferSize = 32;

  enum class Reading : std::uint8_t { Array, Status, Identifier, Query };
  enum class Cycle : std::uint8_t {  // what the next write is
    Command,
    ProgramData,
    EraseConfirm,
    LockConfirm,
    BufferCount,
    BufferData,
    BufferConfirm,
  };

  struct State {
    Reading reading = Reading::Array;
    Cycle cycle = Cycle::Command;
    std::uint8_t status = 0;
    // Write to buffer: where it began, cycles still to come, bytes; those not given stay ones.
    std::uint64_t buffer_block = 0;
    std::uint64_t buffer_start = 0;
    std::uint8_t buffer_left = 0;
    bool buffer_started = false;
    std::array<std::uint8_t, kBufferSize> buffer = erased();

    bool operator==(const State&) const = default;

   private:
    static constexpr std::array<std::uint8_t, kBufferSize> erased() {
      std::array<std::uint8_t, kBufferSize> bytes{};
      bytes.fill(0xff);
      return bytes;
    }
  };

  // `store` outlives this; its size is a whole number of blocks, at least one.
  PFlash(std::string name, FlashStore& store);

  // Whether reads give the array's bytes, so that the guest may have them as read-only memory.
  bool reads_array() const { return state_.reading == Reading::Array; }
  // Called whenever that changed, before the access ends; may be empty. It must not call back.
  std::function<void(bool reads_array)> on_mode;

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  bool is_inside(std::uint64_t offset, std::size_t size) const;
  std::uint8_t identifier(std::uint64_t offset) const;
  std::uint8_t query(std::uint64_t offset) const;
  void command(std::uint64_t offset, std::uint8_t code);
  void program(std::uint64_t offset, std::span<const std::uint8_t> data);
  void erase(std::uint64_t offset);
  void take_buffer_byte(std::uint64_t offset, std::span<const std::uint8_t> data);
  void sequence_error();
  void finish(std::uint8_t errors);
  void tell_mode(Reading before);

  std::string name_;
  FlashStore& store_;
  State state_;
};

}  // namespace vmm
