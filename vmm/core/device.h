// What a chip is to the rest of the machine: registers behind offsets, state that can be visited,
// time that is pulled. A device holds no descriptor, thread, lock, address or interrupt number.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "vmm/base/archive.h"
#include "vmm/base/units.h"

namespace vmm {

// Whether a request suited the device; never the device's inner trouble. The bus answers reads that
// did not with all ones.
enum class [[nodiscard]] Access{
    Ok,
    NoRegister,  // nothing answers at this offset
    BadWidth,    // the register exists, not in this width
};

class Device {
 public:
  virtual ~Device() = default;

  // The instance's name, such as "serial0"; stable, used in traces, snapshots and errors.
  virtual std::string_view name() const = 0;
  // Back to the power-on state; interrupt lines go low.
  virtual void reset() = 0;
  // `offset` is relative to the mapping (plus its displacement); 1, 2, 4 or 8 bytes unless the
  // mapping's width rule says less. A read that is not Ok leaves `data` as it was.
  virtual Access read(std::uint64_t offset, std::span<std::uint8_t> data) = 0;
  virtual Access write(std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
  // Brings the device's own time up to `now`, which never goes backwards. Also called after the
  // outside changed (input arrived, output was taken).
  virtual void advance(VmTime /*now*/) {}
  // When advance() must be called next; nothing when the device waits for no time.
  virtual std::optional<VmTime> next_deadline() const { return std::nullopt; }
  // Lists the state by name (archive.h). After loading, interrupt lines are restored without edges.
  virtual void visit(Archive& archive) = 0;
};

}  // namespace vmm
