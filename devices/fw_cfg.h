// Chip:       fw_cfg, how a machine tells its guest about itself (510h)
// Source:     QEMU's docs/specs/fw_cfg
// Implements: selector and data port, DMA interface (read, skip, select), signature, id, file
//             directory
// Leaves out: items that the guest may write: a DMA write gives the error bit
// Differs:    the data port is read at 511h only; one DMA access copies at most 64 MiB of an item
// and
//             at most 64 KiB of zeroes behind its end, more gives the error bit and moves nothing
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vmm/core/device.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

// Offset 0: selector, 2 bytes; 1: data, 1 byte; 4-11: DMA address, big-endian, written as two
// dwords (the low one, at offset 8, starts the transfer) or at once. Map 12 ports with
// BusWidth::Any.
class FwCfg final : public Device {
 public:
  static constexpr std::uint64_t kMaxCopy = 64_MiB;
  static constexpr std::uint64_t kMaxPadding = 64_KiB;
  static constexpr std::size_t kMaxFileName = 55;

  struct State {
    std::uint16_t selector = 0;  // the signature
    std::uint32_t offset = 0;    // of the next byte in the selected item; at most its size
    std::uint32_t dma_high = 0;  // bits 63:32 of the next transfer's descriptor address

    bool operator==(const State&) const = default;
  };

  // `memory` is where DMA goes and outlives this; without it there is no DMA interface, and the id
  // (key 1) says so.
  FwCfg(std::string name, GuestMemory* memory);

  // Adds an item before the machine starts; items survive reset(). Bits 14 (a channel's direction)
  // of `key` is clear, no key is added twice, and keys 0, 1 and 19h are there from the start.
  void add(std::uint16_t key, std::vector<std::uint8_t> bytes);
  // Adds a file under the next key from 20h on and lists it in the directory (key 19h). `name` has
  // 1 to kMaxFileName bytes and is new.
  void add_file(const std::string& name, std::vector<std::uint8_t> bytes);
  // Other bytes, as many, for a file that is there.
  void replace_file(std::string_view name, std::vector<std::uint8_t> bytes);

  std::string_view name() const override { return name_; }
  void reset() override { state_ = {}; }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  // What is left of the selected item; empty when there is none.
  std::span<const std::uint8_t> rest() const;
  void select(std::uint16_t key);
  std::uint8_t next_byte();
  void transfer(Gpa descriptor);
  bool run_descriptor(std::span<const std::uint8_t> descriptor);

  std::string name_;
  GuestMemory* memory_;
  std::map<std::uint16_t, std::vector<std::uint8_t>> items_;
  std::map<std::string, std::uint16_t, std::less<>> files_;
  State state_;
};

// The items that describe a machine without firmware files: RAM size (3), no screen (4), number of
// CPUs (5), NUMA (0Dh: no nodes), boot menu (0Eh: none), largest number of CPUs (0Fh). `cpus` is at
// most `max_cpus`, that at most 65535. Key 11h is left out, for which kvm-unit-tests read zeroes,
// "no limit".
void add_machine_items(FwCfg& fw_cfg, unsigned cpus, unsigned max_cpus, std::uint64_t ram_bytes);

}  // namespace vmm
