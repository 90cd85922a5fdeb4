#include "devices/pc_testdev.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"
#include "vmm/base/bytes.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

std::array<IrqLine, PcTestdev::kLines> all_lines(IrqPins& pins) {
  std::array<IrqLine, PcTestdev::kLines> lines;
  for (unsigned n = 0; n < lines.size(); ++n) lines[n] = pins.line(n);
  return lines;
}

class PcTestdevTest : public testing::Test {
 protected:
  RecordingIrq irq;
  IrqPins pins{irq, PcTestdev::kLines};
  std::vector<Gpa> flushed;
  PcTestdev testdev{"testdev", all_lines(pins), [this](Gpa gpa) { flushed.push_back(gpa); }};

  template <typename T>
  T read(std::uint64_t offset) {
    std::array<std::uint8_t, sizeof(T)> data{};
    EXPECT_EQ(testdev.read(offset, data), Access::Ok) << offset;
    return load<T>(data);
  }
  template <typename T>
  Access write(std::uint64_t offset, T value) {
    std::array<std::uint8_t, sizeof(T)> data;
    store(data, 0, value);
    return testdev.write(offset, data);
  }
};

TEST_F(PcTestdevTest, storage_keeps_bytes_words_and_dwords) {
  EXPECT_EQ(write<std::uint32_t>(0, 0x1234'5678), Access::Ok);
  EXPECT_EQ(read<std::uint8_t>(0), 0x78);
  EXPECT_EQ(read<std::uint16_t>(0), 0x5678);
  EXPECT_EQ(read<std::uint32_t>(0), 0x1234'5678u);
  EXPECT_EQ(write<std::uint16_t>(2, 0xabcd), Access::Ok);
  EXPECT_EQ(write<std::uint8_t>(0, 0xff), Access::Ok);
  EXPECT_EQ(read<std::uint32_t>(0), 0xabcd'56ffu);
}

TEST_F(PcTestdevTest, the_byte_ports_reach_the_same_storage) {
  EXPECT_EQ(write<std::uint32_t>(0, 0x1234'5678), Access::Ok);
  EXPECT_EQ(in(testdev, 9), 0x56);
  out(testdev, 11, 0x99);
  EXPECT_EQ(read<std::uint32_t>(0), 0x9934'5678u);
}

TEST_F(PcTestdevTest, a_dword_at_e4_flushes_its_page) {
  EXPECT_EQ(write<std::uint32_t>(4, 0xfedc'ba98), Access::Ok);
  EXPECT_EQ(flushed, std::vector<Gpa>{0xfedc'b000});
  EXPECT_EQ(write<std::uint16_t>(4, 0), Access::BadWidth);
  EXPECT_EQ(write<std::uint32_t>(5, 0), Access::BadWidth);
  EXPECT_EQ(flushed.size(), 1u);
}

TEST_F(PcTestdevTest, each_line_follows_its_port) {
  for (unsigned n = 0; n < PcTestdev::kLines; ++n) {
    irq.changes.clear();
    out(testdev, 0x20 + n, 1);
    out(testdev, 0x20 + n, 0xff);
    out(testdev, 0x20 + n, 0);
    EXPECT_EQ(irq.changes, (std::vector<std::pair<unsigned, bool>>{{n, true}, {n, false}}));
  }
  EXPECT_EQ(write<std::uint16_t>(0x20, 1), Access::BadWidth);
  EXPECT_EQ(write<std::uint8_t>(0x38, 1), Access::NoRegister);
}

TEST_F(PcTestdevTest, reset_lowers_the_lines) {
  out(testdev, 0x20 + 14, 1);
  testdev.reset();
  EXPECT_EQ(irq.changes.back(), std::make_pair(14u, false));
}

TEST_F(PcTestdevTest, memory_is_zero_and_keeps_every_width) {
  EXPECT_EQ(read<std::uint64_t>(0x1fff8), 0u);
  EXPECT_EQ(write<std::uint64_t>(0x1fff8, 0x1122'3344'5566'7788), Access::Ok);
  EXPECT_EQ(write<std::uint8_t>(0x10000, 0x42), Access::Ok);
  EXPECT_EQ(read<std::uint64_t>(0x1fff8), 0x1122'3344'5566'7788u);
  EXPECT_EQ(read<std::uint32_t>(0x1fffa), 0x3344'5566u);
  EXPECT_EQ(read<std::uint16_t>(0x10000), 0x42);
}

TEST_F(PcTestdevTest, an_access_over_the_end_is_refused) {
  EXPECT_EQ(write<std::uint32_t>(0x1fffe, 0), Access::BadWidth);
  EXPECT_EQ(write<std::uint32_t>(1, 0), Access::BadWidth);
  EXPECT_EQ(write<std::uint8_t>(0x20000, 0), Access::NoRegister);
  std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(testdev.read(0x1fffd, data), Access::BadWidth);
  EXPECT_EQ(testdev.read(0xc, data), Access::NoRegister);
}

TEST_F(PcTestdevTest, a_saved_state_with_short_memory_is_made_whole) {
  StateBlock saved = save_state(testdev);
  for (auto& [name, value] : saved.fields)
    if (name == "memory") value = "4711";
  ASSERT_TRUE(load_state(testdev, saved).has_value());
  EXPECT_EQ(read<std::uint32_t>(0x10000), 0x1147u);
  EXPECT_EQ(read<std::uint32_t>(0x1fffc), 0u);
}

}  // namespace
}  // namespace vmm
