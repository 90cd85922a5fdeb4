#include "devices/ioapic.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

constexpr std::uint32_t kLevel = 0x8000;
constexpr std::uint32_t kActiveLow = 0x2000;
constexpr std::uint32_t kMask = 0x10000;
constexpr std::uint32_t kRemoteIrr = 0x4000;

class IoapicTest : public testing::Test {
 protected:
  std::vector<ApicMessage> sent;
  bool accepted = true;  // what the local APICs say
  Ioapic chip{"ioapic", 0x20, [this](const ApicMessage& message) {
                sent.push_back(message);
                return accepted;
              }};

  static std::uint32_t read32(Ioapic& device, std::uint64_t offset) {
    std::array<std::uint8_t, 4> data{};
    EXPECT_EQ(device.read(offset, data), Access::Ok);
    return load<std::uint32_t>(data);
  }
  static void write32(Ioapic& device, std::uint64_t offset, std::uint32_t value) {
    std::array<std::uint8_t, 4> data{};
    store(std::span(data), 0, value);
    EXPECT_EQ(device.write(offset, data), Access::Ok);
  }
  std::uint32_t get(unsigned index) {
    write32(chip, 0, index);
    return read32(chip, 0x10);
  }
  void set(unsigned index, std::uint32_t value) {
    write32(chip, 0, index);
    write32(chip, 0x10, value);
  }
  void low(unsigned pin, std::uint32_t value) { set(0x10 + 2 * pin, value); }
  void high(unsigned pin, std::uint32_t value) { set(0x11 + 2 * pin, value); }
  std::uint32_t low(unsigned pin) { return get(0x10 + 2 * pin); }
  void raise(unsigned pin) { chip.set_pin(pin, true); }
  void drop(unsigned pin) { chip.set_pin(pin, false); }
  // How many messages came since the last question.
  std::size_t count() {
    const std::size_t n = sent.size();
    sent.clear();
    return n;
  }
};

TEST_F(IoapicTest, version_and_number_of_entries) {
  EXPECT_EQ(get(1), 0x00170020u);
  set(1, 0xffffffff);
  EXPECT_EQ(get(1), 0x00170020u);
  Ioapic old("ioapic", 0x11, nullptr);
  write32(old, 0, 1);
  EXPECT_EQ(read32(old, 0x10), 0x00170011u);
}

TEST_F(IoapicTest, only_bits_27_to_24_of_the_id_can_be_written_and_arb_follows) {
  set(0, 0xffffffff);
  EXPECT_EQ(get(0), 0x0f000000u);
  EXPECT_EQ(get(2), 0x0f000000u);
  set(2, 0);
  EXPECT_EQ(get(2), 0x0f000000u);
  set(0, 0x03000000);
  EXPECT_EQ(get(2), 0x03000000u);
}

TEST_F(IoapicTest, power_on_masks_every_entry) {
  for (unsigned pin = 0; pin < Ioapic::kPins; ++pin) {
    EXPECT_EQ(low(pin), kMask);
    EXPECT_EQ(get(0x11 + 2 * pin), 0u);
    raise(pin);
  }
  EXPECT_EQ(count(), 0u);
}

TEST_F(IoapicTest, read_only_and_reserved_bits_of_an_entry_stay_0) {
  low(5, 0xffffffff);
  high(5, 0xffffffff);
  EXPECT_EQ(low(5), 0x0001afffu);
  EXPECT_EQ(get(0x1b), 0xff000000u);
}

TEST_F(IoapicTest, registers_that_do_not_exist_read_all_ones_and_take_nothing) {
  const StateBlock before = save_state(chip);
  for (unsigned index = 3; index < 0x100; ++index) {
    if (index >= 0x10 && index < 0x40) continue;
    EXPECT_EQ(get(index), 0xffffffffu) << index;
    set(index, 0);
  }
  write32(chip, 0, 0);
  EXPECT_EQ(save_state(chip), before);
}

TEST_F(IoapicTest, the_index_takes_narrow_accesses_and_the_window_only_dwords) {
  std::array<std::uint8_t, 8> data = {1, 0xff, 0xff, 0xff, 0, 0, 0, 0};
  const std::span all(data);
  EXPECT_EQ(chip.write(0, all.first(1)), Access::Ok);
  EXPECT_EQ(read32(chip, 0), 1u);
  EXPECT_EQ(chip.write(0, all.first(2)), Access::Ok);
  EXPECT_EQ(read32(chip, 0), 1u);
  EXPECT_EQ(chip.read(0, all.first(1)), Access::Ok);
  EXPECT_EQ(chip.write(0, all), Access::BadWidth);
  for (const std::size_t width : {1u, 2u, 8u}) {
    EXPECT_EQ(chip.read(0x10, all.first(width)), Access::BadWidth);
    EXPECT_EQ(chip.write(0x40, all.first(width)), Access::BadWidth);
  }
  EXPECT_EQ(chip.read(0x20, all.first(4)), Access::NoRegister);
  EXPECT_EQ(chip.read(0x11, all.first(4)), Access::NoRegister);
}

TEST_F(IoapicTest, an_edge_sends_one_message) {
  high(4, 0x03000000);
  low(4, 0x41);
  raise(4);
  raise(4);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0], (ApicMessage{.destination = 3, .vector = 0x41}));
  EXPECT_EQ(low(4), 0x41u) << "no remote IRR";
  drop(4);
  EXPECT_EQ(count(), 1u);
  raise(4);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, an_edge_while_masked_is_dropped) {
  low(4, kMask | 0x41);
  raise(4);
  low(4, 0x41);
  EXPECT_EQ(count(), 0u);
  drop(4);
  raise(4);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, what_an_entry_says_is_in_the_message) {
  high(4, 0x81000000);
  low(4, 0x0900 | 0x41);  // logical, lowest priority
  raise(4);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0], (ApicMessage{.destination = 0x81,
                                  .logical = true,
                                  .mode = DeliveryMode::LowestPriority,
                                  .vector = 0x41}));
}

TEST_F(IoapicTest, ff_is_a_broadcast_in_physical_mode_only) {
  high(4, 0xff000000);
  low(4, 0x41);
  raise(4);
  drop(4);
  low(4, 0x0841);
  raise(4);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].destination, kApicBroadcast);
  EXPECT_EQ(sent[1].destination, 0xffu);
}

TEST_F(IoapicTest, a_level_sends_once_until_its_eoi) {
  low(9, kLevel | 0x51);
  raise(9);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].level_triggered);
  EXPECT_TRUE(sent[0].asserted);
  EXPECT_EQ(low(9), kLevel | kRemoteIrr | 0x51);
  drop(9);
  raise(9);
  EXPECT_EQ(count(), 1u) << "still in service";
  chip.eoi(0x50);
  EXPECT_EQ(count(), 0u) << "another vector";
  chip.eoi(0x51);
  EXPECT_EQ(count(), 1u) << "the line is still high";
  drop(9);
  chip.eoi(0x51);
  EXPECT_EQ(count(), 0u);
  EXPECT_EQ(low(9), kLevel | 0x51);
}

TEST_F(IoapicTest, the_eoi_register_ends_a_vector_from_version_20h_on) {
  low(9, kLevel | 0x51);
  raise(9);
  write32(chip, 0x40, 0x51);
  EXPECT_EQ(count(), 2u);
  EXPECT_EQ(read32(chip, 0x40), 0u);
  Ioapic old("ioapic", 0x11, nullptr);
  std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(old.write(0x40, data), Access::NoRegister);
  EXPECT_EQ(old.read(0x40, data), Access::NoRegister);
}

TEST_F(IoapicTest, one_eoi_ends_every_level_entry_of_the_vector) {
  low(9, kLevel | 0x51);
  low(10, kLevel | 0x51);
  low(11, 0x51);
  raise(9);
  raise(10);
  raise(11);
  EXPECT_EQ(count(), 3u);
  chip.eoi(0x51);
  EXPECT_EQ(count(), 2u);
}

TEST_F(IoapicTest, unmasking_an_active_level_sends) {
  low(9, kMask | kLevel | 0x51);
  raise(9);
  EXPECT_EQ(count(), 0u);
  low(9, kLevel | 0x51);
  EXPECT_EQ(count(), 1u);
  low(9, kMask | kLevel | 0x51);
  low(9, kLevel | 0x51);
  EXPECT_EQ(count(), 0u) << "remote IRR is still set";
  low(9, kMask | kLevel | 0x51);
  chip.eoi(0x51);
  EXPECT_EQ(count(), 0u);
  low(9, kLevel | 0x51);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, remote_irr_cannot_be_written) {
  low(9, kLevel | kRemoteIrr | 0x51);
  EXPECT_EQ(low(9), kLevel | 0x51);
  raise(9);
  low(9, kMask | kLevel | 0x51);
  EXPECT_EQ(low(9), kMask | kLevel | kRemoteIrr | 0x51);
}

TEST_F(IoapicTest, remote_irr_waits_for_a_local_apic_that_accepts) {
  accepted = false;
  low(9, kLevel | 0x51);
  raise(9);
  EXPECT_EQ(count(), 1u);
  EXPECT_EQ(low(9), kLevel | 0x51) << "nobody will end what nobody took";
  accepted = true;
  low(9, kLevel | 0x52);
  EXPECT_EQ(count(), 1u) << "the line is still high";
  EXPECT_EQ(low(9), kLevel | kRemoteIrr | 0x52);
}

TEST_F(IoapicTest, linux_ends_a_level_without_eoi_register_by_way_of_edge) {
  low(9, kLevel | 0x51);
  raise(9);
  EXPECT_EQ(count(), 1u);
  low(9, kMask | 0x51);
  EXPECT_EQ(low(9), kMask | 0x51) << "remote IRR is clear";
  low(9, kLevel | 0x51);
  EXPECT_EQ(count(), 1u);
}

TEST_F(IoapicTest, active_low_turns_the_pin_round) {
  low(9, kActiveLow | 0x51);
  raise(9);
  EXPECT_EQ(count(), 0u);
  drop(9);
  EXPECT_EQ(count(), 1u);
  low(10, kActiveLow | kLevel | 0x52);
  EXPECT_EQ(count(), 1u) << "a low pin is active";
  raise(10);
  chip.eoi(0x52);
  EXPECT_EQ(count(), 0u);
}

TEST_F(IoapicTest, modes_other_than_fixed_and_lowest_priority_are_edges) {
  for (const DeliveryMode mode :
       {DeliveryMode::Smi, DeliveryMode::Nmi, DeliveryMode::Init, DeliveryMode::ExtInt}) {
    low(3, kLevel | static_cast<std::uint32_t>(mode) << 8);
    EXPECT_EQ(count(), 0u);
    raise(3);
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].mode, mode);
    EXPECT_EQ(low(3) & kRemoteIrr, 0u);
    drop(3);
    count();
  }
}

TEST_F(IoapicTest, reserved_modes_send_nothing) {
  for (const std::uint32_t mode : {3u, 6u}) {
    low(3, mode << 8 | 0x41);
    raise(3);
    drop(3);
    EXPECT_TRUE(chip.route(3).masked);
  }
  EXPECT_EQ(count(), 0u);
}

TEST_F(IoapicTest, a_route_is_the_message_to_come) {
  EXPECT_TRUE(chip.route(9).masked);
  high(9, 0x02000000);
  low(9, kLevel | 0x51);
  const Ioapic::Route route = chip.route(9);
  EXPECT_FALSE(route.masked);
  raise(9);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(route.message, sent[0]);
  EXPECT_EQ(chip.route(9), route) << "remote IRR is no part of it";
}

TEST_F(IoapicTest, the_generation_grows_with_changed_routes_only) {
  const auto start = chip.generation();
  low(9, kLevel | 0x51);
  const auto written = chip.generation();
  EXPECT_GT(written, start);
  low(9, kLevel | 0x51);
  raise(9);
  chip.eoi(0x51);
  set(0, 0x05000000);
  get(9);
  EXPECT_EQ(chip.generation(), written);
  const StateBlock saved = save_state(chip);
  EXPECT_EQ(chip.generation(), written);
  chip.reset();
  const auto reset = chip.generation();
  EXPECT_GT(reset, written);
  ASSERT_TRUE(load_state(chip, saved).has_value());
  EXPECT_GT(chip.generation(), reset);
}

TEST_F(IoapicTest, loading_sends_nothing_and_goes_on) {
  low(9, kLevel | 0x51);
  raise(9);
  count();
  std::vector<ApicMessage> later;
  Ioapic other("ioapic", 0x20, [&](const ApicMessage& message) {
    later.push_back(message);
    return true;
  });
  ASSERT_TRUE(load_state(other, save_state(chip)).has_value());
  EXPECT_TRUE(later.empty());
  other.eoi(0x51);
  EXPECT_EQ(later.size(), 1u);
}

// Between EOIs a level-triggered entry is sent at most once, and after the last EOI nothing that
// may be sent waits.
TEST_F(IoapicTest, an_active_unmasked_level_is_always_on_its_way) {
  std::mt19937 random(3);
  for (unsigned i = 0; i < 200'000; ++i) {
    const auto dice = static_cast<std::uint32_t>(random());
    const unsigned pin = (dice >> 4) % Ioapic::kPins;
    switch (dice % 4) {
      case 0:
        chip.set_pin(pin, (dice & 0x1000) != 0);
        break;
      case 1:
        chip.eoi(static_cast<std::uint8_t>(dice >> 16 & 7));
        break;
      default:
        low(pin, (dice & (kMask | kLevel | kActiveLow | 0x700)) | (dice >> 20 & 7));
        break;
    }
    for (unsigned p = 0; p < Ioapic::kPins; ++p) {
      const std::uint64_t entry = chip.state().entries[p];
      const bool level = (entry & kLevel) != 0 && (entry & 0x600) == 0;
      const bool active =
          bit(chip.state().pins, p) != ((entry & kActiveLow) != 0) && (entry & kMask) == 0;
      if (level && active) {
        ASSERT_NE(entry & kRemoteIrr, 0u) << "step " << i << " pin " << p;
      }
      if (!level) {
        ASSERT_EQ(entry & kRemoteIrr, 0u);
      }
    }
  }
}

}  // namespace
}  // namespace vmm
