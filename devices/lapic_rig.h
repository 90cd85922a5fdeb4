// For tests: a LAPIC whose wires write down what leaves, and its registers as expressions.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "devices/lapic.h"

namespace vmm {

class LapicRig : public testing::Test {
 protected:
  using Note = std::pair<std::string, std::uint64_t>;

  explicit LapicRig(std::uint32_t id = 0, bool bootstrap = true)
      : lapic("lapic0", id, bootstrap,
              {.send = [this](const ApicCommand& command) { sent.push_back(command); },
               .broadcast_eoi = [this](std::uint8_t vector) { eois.push_back(vector); },
               .local_event = [this](DeliveryMode mode) { events.push_back(mode); },
               .note = [this](TraceKind kind,
                              std::uint64_t value) { notes.emplace_back(kind.name(), value); }}) {}

  std::uint32_t get(std::uint64_t offset) {
    std::array<std::uint8_t, 4> data{};
    EXPECT_EQ(lapic.read(offset, data), Access::Ok) << std::hex << offset;
    std::uint32_t value = 0;
    std::memcpy(&value, data.data(), sizeof value);
    return value;
  }
  Access try_put(std::uint64_t offset, std::uint32_t value) {
    std::array<std::uint8_t, 4> data{};
    std::memcpy(data.data(), &value, sizeof value);
    return lapic.write(offset, data);
  }
  void put(std::uint64_t offset, std::uint32_t value) {
    EXPECT_EQ(try_put(offset, value), Access::Ok) << std::hex << offset;
  }
  std::uint64_t get_msr(std::uint32_t index) {
    std::uint64_t value = 0;
    EXPECT_TRUE(lapic.read_msr(index, value)) << std::hex << index;
    return value;
  }
  bool put_msr(std::uint32_t index, std::uint64_t value) { return lapic.write_msr(index, value); }

  void enable() { put(0xf0, 0x1ff); }
  void enter_x2apic() { lapic.set_base(lapic.base() | 0xc00); }
  // IRR, then ISR; nothing if the priority does not allow it.
  std::optional<std::uint8_t> take() {
    const std::optional<std::uint8_t> vector = lapic.pending();
    if (vector) lapic.acknowledge(*vector);
    return vector;
  }
  void eoi() { put(0xb0, 0); }
  bool bit(std::uint64_t first_register, unsigned vector) {
    return (get(first_register + vector / 32 * 16) >> vector % 32 & 1) != 0;
  }
  bool isr(unsigned vector) { return bit(0x100, vector); }
  bool tmr(unsigned vector) { return bit(0x180, vector); }
  bool irr(unsigned vector) { return bit(0x200, vector); }
  // As software reads it: written first.
  std::uint32_t errors() {
    put(0x280, 0);
    return get(0x280);
  }

  std::vector<ApicCommand> sent;
  std::vector<std::uint8_t> eois;
  std::vector<DeliveryMode> events;
  std::vector<Note> notes;
  Lapic lapic;
};

}  // namespace vmm
