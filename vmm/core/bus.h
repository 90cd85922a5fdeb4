// A bus: address ranges and the devices behind them. There are two in a PC, ports and memory.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/core/clock.h"
#include "vmm/core/device.h"

namespace vmm {

// What the bus does with an access before a device sees it.
enum class BusWidth {
  Any,    // hand over as it is (1, 2, 4 or 8 bytes)
  Byte,   // split into single bytes at successive offsets
  Dword,  // aligned 4-byte accesses only; others are refused
};

struct BusRange {
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  std::uint64_t displacement =
      0;  // added to the offset, so that one device may have several ranges
  BusWidth width = BusWidth::Any;
};

// How often an address that nothing claims was touched.
struct UnclaimedAccess {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
};

class Bus {
 public:
  // `name` is "port" or "mmio"; addresses at and above `limit` do not exist (ports: 10000h).
  Bus(std::string_view name, std::uint64_t limit) : name_(name), limit_(limit) {}

  // From now on a device's time is brought up to `clock`, which must outlive the bus, before each
  // access to it.
  void keep_time(const Clock& clock) { clock_ = &clock; }
  // Attaches `device`, which must outlive the bus. An overlap is an Internal error naming both.
  Result<void> map(const BusRange& range, Device& device);
  // Takes the mapping that begins at `base` away (a check that there is one). Not that of the
  // device which is being accessed.
  void unmap(std::uint64_t base);

  // Reads give all ones where nothing answers. Both return the device that answered (the first one
  // of an access that was split), or nullptr.
  Device* read(std::uint64_t address, std::span<std::uint8_t> data);
  Device* write(std::uint64_t address, std::span<const std::uint8_t> data);

  // The device that claims `address`, or nullptr.
  Device* find(std::uint64_t address) const;

  std::string_view name() const { return name_; }
  // Addresses touched that nothing claims: at most kMaxUnclaimed different ones are told apart, the
  // rest are in other_unclaimed().
  static constexpr std::size_t kMaxUnclaimed = 256;
  const std::map<std::uint64_t, UnclaimedAccess>& unclaimed() const { return unclaimed_; }
  const UnclaimedAccess& other_unclaimed() const { return other_unclaimed_; }
  // "base-last device" a line, by address: the bus as a picture.
  std::string print() const;

 private:
  struct Mapping {
    BusRange range;
    Device* device;
  };
  const Mapping* lookup(std::uint64_t address) const;
  void bring_up_to_date(Device& device) const {
    if (clock_ != nullptr) device.advance(clock_->now());
  }
  UnclaimedAccess& count_unclaimed(std::uint64_t address);

  std::string name_;
  std::uint64_t limit_;
  const Clock* clock_ = nullptr;
  std::map<std::uint64_t, Mapping> mappings_;  // by base
  std::map<std::uint64_t, UnclaimedAccess> unclaimed_;
  UnclaimedAccess other_unclaimed_;
};

}  // namespace vmm
