#include "vmm/core/bus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Answers with the low byte of each offset, writes down what it is asked, and refuses what it is
// told to refuse.
class Toy final : public Device {
 public:
  explicit Toy(std::string name) : name_(std::move(name)) {}

  std::string_view name() const override { return name_; }
  void reset() override { asked.clear(); }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override {
    asked.emplace_back(offset, data.size());
    if (answer != Access::Ok) {
      // A careless device; the bus must not let this through.
      std::fill(data.begin(), data.end(), std::uint8_t{0x55});
      return answer;
    }
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(offset + i);
    return Access::Ok;
  }
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    asked.emplace_back(offset, data.size());
    written = load_uint(data);
    return answer;
  }
  void visit(Archive& a) override { a.block("toy", 1); }

  Access answer = Access::Ok;
  std::uint64_t written = 0;
  std::vector<std::pair<std::uint64_t, std::size_t>> asked;  // offset, width

 private:
  std::string name_;
};

class PortBus : public testing::Test {
 protected:
  std::uint64_t read(std::uint64_t address, std::size_t width) {
    std::array<std::uint8_t, 8> data{};
    answered_ = bus_.read(address, std::span(data).first(width));
    return load_uint(std::span(data).first(width));
  }
  void write(std::uint64_t address, std::uint64_t value, std::size_t width) {
    std::array<std::uint8_t, 8> data{};
    store_uint(data, value);
    answered_ = bus_.write(address, std::span(data).first(width));
  }
  std::string refusal(const BusRange& range) {
    const auto result = bus_.map(range, other_);
    if (result.has_value()) return "";
    EXPECT_EQ(result.error().kind(), ErrorKind::Internal);
    return result.error().text();
  }

  Bus bus_{"port", 0x10000};
  Toy toy_{"toy0"};
  Toy other_{"other0"};
  Device* answered_ = nullptr;
};

TEST_F(PortBus, gives_the_device_offsets_from_its_base) {
  ASSERT_TRUE(bus_.map({.base = 0x3f8, .size = 8}, toy_).has_value());
  EXPECT_EQ(read(0x3f8, 1), 0u);
  EXPECT_EQ(read(0x3ff, 1), 7u);
  EXPECT_EQ(read(0x3fa, 4), 0x05040302u);
  EXPECT_EQ(answered_, &toy_);
  EXPECT_THAT(toy_.asked, ElementsAre(std::pair(0u, 1u), std::pair(7u, 1u), std::pair(2u, 4u)));
}

TEST_F(PortBus, a_displacement_gives_one_device_several_ranges) {
  ASSERT_TRUE(bus_.map({.base = 0x20, .size = 2}, toy_).has_value());
  ASSERT_TRUE(bus_.map({.base = 0xa0, .size = 2, .displacement = 2}, toy_).has_value());
  EXPECT_EQ(read(0x21, 1), 1u);
  EXPECT_EQ(read(0xa1, 1), 3u);
}

TEST_F(PortBus, writes_reach_the_device) {
  ASSERT_TRUE(bus_.map({.base = 0xf4, .size = 4}, toy_).has_value());
  write(0xf4, 0x12345678, 4);
  EXPECT_EQ(toy_.written, 0x12345678u);
  EXPECT_EQ(answered_, &toy_);
}

TEST_F(PortBus, where_nothing_is_reads_give_ones_and_both_are_counted) {
  EXPECT_EQ(read(0x2e9, 1), 0xffu);
  EXPECT_EQ(read(0x2e9, 4), 0xffffffffu);
  write(0x2e9, 0, 2);
  EXPECT_EQ(answered_, nullptr);
  ASSERT_EQ(bus_.unclaimed().size(), 1u);
  EXPECT_EQ(bus_.unclaimed().at(0x2e9).reads, 2u);
  EXPECT_EQ(bus_.unclaimed().at(0x2e9).writes, 1u);
}

TEST_F(PortBus, the_neighbours_of_a_range_are_not_it) {
  ASSERT_TRUE(bus_.map({.base = 0x60, .size = 1}, toy_).has_value());
  EXPECT_EQ(bus_.find(0x5f), nullptr);
  EXPECT_EQ(bus_.find(0x60), &toy_);
  EXPECT_EQ(bus_.find(0x61), nullptr);
}

TEST_F(PortBus, a_device_that_refuses_reads_as_ones_whatever_it_left_in_the_buffer) {
  ASSERT_TRUE(bus_.map({.base = 0x60, .size = 8}, toy_).has_value());
  for (const Access refusal : {Access::NoRegister, Access::BadWidth}) {
    toy_.answer = refusal;
    EXPECT_EQ(read(0x60, 2), 0xffffu);
    EXPECT_EQ(answered_, nullptr);
    write(0x60, 1, 2);
    EXPECT_EQ(answered_, nullptr);
  }
  EXPECT_EQ(bus_.unclaimed().at(0x60).reads, 2u);
  EXPECT_EQ(bus_.unclaimed().at(0x60).writes, 2u);
}

TEST_F(PortBus, an_access_over_the_end_of_a_range_never_reaches_the_device) {
  ASSERT_TRUE(bus_.map({.base = 0x60, .size = 2}, toy_).has_value());
  EXPECT_EQ(read(0x61, 2), 0xffffu);
  write(0x61, 0, 4);
  EXPECT_THAT(toy_.asked, IsEmpty());
}

TEST_F(PortBus, byte_width_splits_and_reaches_neighbours) {
  ASSERT_TRUE(bus_.map({.base = 0x20, .size = 2, .width = BusWidth::Byte}, toy_).has_value());
  ASSERT_TRUE(bus_.map({.base = 0x22, .size = 1}, other_).has_value());
  EXPECT_EQ(read(0x20, 4), 0xff000100u);
  EXPECT_EQ(answered_, &toy_);
  EXPECT_THAT(toy_.asked, ElementsAre(std::pair(0u, 1u), std::pair(1u, 1u)));
  EXPECT_THAT(other_.asked, ElementsAre(std::pair(0u, 1u)));
  write(0x21, 0xbbaa, 2);
  EXPECT_EQ(toy_.written, 0xaau);
  EXPECT_EQ(other_.written, 0xbbu);
}

TEST_F(PortBus, a_split_access_was_answered_only_if_a_part_of_it_was) {
  ASSERT_TRUE(bus_.map({.base = 0x20, .size = 2, .width = BusWidth::Byte}, toy_).has_value());
  toy_.answer = Access::NoRegister;
  EXPECT_EQ(read(0x20, 2), 0xffffu);
  EXPECT_EQ(answered_, nullptr);
  ASSERT_TRUE(bus_.map({.base = 0x22, .size = 1}, other_).has_value());
  EXPECT_EQ(read(0x21, 2), 0x00ffu);
  EXPECT_EQ(answered_, &other_);
}

TEST_F(PortBus, dword_width_takes_aligned_dwords_only) {
  ASSERT_TRUE(bus_.map({.base = 0xcf8, .size = 8, .width = BusWidth::Dword}, toy_).has_value());
  EXPECT_EQ(read(0xcfc, 4), 0x07060504u);
  EXPECT_EQ(read(0xcf8, 1), 0xffu);
  EXPECT_EQ(read(0xcf8, 8), ~std::uint64_t{0});
  EXPECT_EQ(read(0xcf9, 4), 0xffffffffu);
  write(0xcfa, 0, 4);
  EXPECT_EQ(toy_.asked.size(), 1u);
}

TEST_F(PortBus, the_last_port_can_be_mapped_and_what_is_behind_it_does_not_exist) {
  ASSERT_TRUE(bus_.map({.base = 0xffff, .size = 1, .width = BusWidth::Byte}, toy_).has_value());
  EXPECT_EQ(read(0xffff, 2), 0xff00u);
  EXPECT_EQ(answered_, &toy_);
}

TEST_F(PortBus, an_empty_access_does_nothing) {
  ASSERT_TRUE(bus_.map({.base = 0x60, .size = 8}, toy_).has_value());
  EXPECT_EQ(read(0x60, 0), 0u);
  EXPECT_EQ(read(0x70, 0), 0u);
}

TEST_F(PortBus, ranges_that_do_not_fit_are_refused) {
  EXPECT_THAT(refusal({.base = 0x10000, .size = 1}), HasSubstr("does not fit the bus"));
  EXPECT_THAT(refusal({.base = 0xffff, .size = 2}), HasSubstr("other0 at port ffffh-10000h"));
  EXPECT_THAT(refusal({.base = 0x60, .size = 0}), HasSubstr("does not fit the bus"));
  EXPECT_THAT(refusal({.base = 0x60, .size = ~std::uint64_t{0}}), HasSubstr("does not fit"));
  EXPECT_THAT(refusal({.base = ~std::uint64_t{0}, .size = 1}), HasSubstr("does not fit"));
  EXPECT_EQ(bus_.print(), "");
}

TEST_F(PortBus, overlaps_are_refused_and_name_both) {
  ASSERT_TRUE(bus_.map({.base = 0x60, .size = 5}, toy_).has_value());
  EXPECT_EQ(refusal({.base = 0x64, .size = 1}),
            "other0 at port 64h-64h overlaps toy0 at port 60h-64h");
  EXPECT_THAT(refusal({.base = 0x5f, .size = 2}), HasSubstr("overlaps toy0"));
  EXPECT_THAT(refusal({.base = 0x60, .size = 5}), HasSubstr("overlaps toy0"));
  EXPECT_THAT(refusal({.base = 0, .size = 0x10000}), HasSubstr("overlaps toy0"));
  EXPECT_EQ(refusal({.base = 0x65, .size = 1}), "");
  EXPECT_EQ(refusal({.base = 0x5f, .size = 1}), "");
}

TEST_F(PortBus, a_range_that_was_taken_away_is_free_again) {
  ASSERT_TRUE(bus_.map({.base = 0x60, .size = 5}, toy_).has_value());
  bus_.unmap(0x60);
  EXPECT_EQ(bus_.find(0x60), nullptr);
  EXPECT_EQ(refusal({.base = 0x64, .size = 1}), "");
  EXPECT_DEATH(bus_.unmap(0x65), "nothing on this bus begins there");
}

TEST_F(PortBus, prints_the_picture_by_address) {
  ASSERT_TRUE(bus_.map({.base = 0x3f8, .size = 8}, toy_).has_value());
  ASSERT_TRUE(bus_.map({.base = 0x60, .size = 1}, other_).has_value());
  EXPECT_EQ(bus_.print(), "port 0060h-0060h other0\nport 03f8h-03ffh toy0\n");
}

TEST(MmioBus, a_guest_that_touches_everything_cannot_make_the_counters_grow) {
  Bus bus("mmio", std::uint64_t{1} << 52);
  std::array<std::uint8_t, 4> data{};
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    bus.read(i * 4096, data);
    bus.write(i * 4096, data);
  }
  EXPECT_EQ(bus.unclaimed().size(), Bus::kMaxUnclaimed);
  EXPECT_EQ(bus.other_unclaimed().reads, 10'000 - Bus::kMaxUnclaimed);
  EXPECT_EQ(bus.other_unclaimed().writes, 10'000 - Bus::kMaxUnclaimed);
  bus.read(0, data);
  EXPECT_EQ(bus.unclaimed().at(0).reads, 2u);
}

}  // namespace
}  // namespace vmm
