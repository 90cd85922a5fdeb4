#include "devices/pflash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/bytes.h"
#include "vmm/core/flash_store_fake.h"

namespace vmm {
namespace {

using ::testing::ElementsAre;

constexpr std::size_t kBlocks = 0x84;  // of OVMF's larger store

class PFlashTest : public testing::Test {
 protected:
  std::uint8_t read(std::uint64_t offset) {
    std::array<std::uint8_t, 1> data{};
    EXPECT_EQ(flash.read(offset, data), Access::Ok);
    return data[0];
  }
  template <typename T>
  T read_as(std::uint64_t offset) {
    std::array<std::uint8_t, sizeof(T)> data{};
    EXPECT_EQ(flash.read(offset, data), Access::Ok);
    return load<T>(data);
  }
  template <typename T = std::uint8_t>
  void write(std::uint64_t offset, T value) {
    std::array<std::uint8_t, sizeof(T)> data{};
    store(data, 0, value);
    EXPECT_EQ(flash.write(offset, data), Access::Ok);
  }
  void program(std::uint64_t offset, std::uint8_t value) {
    write<std::uint8_t>(offset, 0x10);
    write(offset, value);
  }
  std::uint8_t status() {
    write<std::uint8_t>(0, 0x70);
    return read(0);
  }

  FakeFlashStore array{kBlocks * PFlash::kBlockSize};
  PFlash flash{"vars", array};
};

TEST_F(PFlashTest, reads_the_array_after_power_on) {
  array.array[5] = 0x12;
  EXPECT_TRUE(flash.reads_array());
  EXPECT_EQ(read(5), 0x12);
  EXPECT_EQ(read_as<std::uint32_t>(4), 0xffff12ffU);
}

// OvmfPkg/QemuFlashFvbServicesRuntimeDxe, QemuFlashDetected(), of 2022 and of 2026.
TEST_F(PFlashTest, ovmf_tells_it_from_ram_and_rom) {
  array.array[0x10] = 0x8d;
  write<std::uint8_t>(0x10, 0x50);
  EXPECT_NE(read(0x10), 0x50) << "or it is RAM";
  write<std::uint8_t>(0x10, 0x70);
  EXPECT_EQ(read(0x10), 0x00) << "or it is ROM";
  write<std::uint8_t>(0x10, 0x10);
  write<std::uint8_t>(0x10, 0x8d);
  write<std::uint8_t>(0x10, 0x70);
  EXPECT_EQ(read(0x10) & 0x10, 0) << "or it is write-protected";
  write<std::uint8_t>(0x10, 0xff);
  EXPECT_EQ(read(0x10), 0x8d);
}

TEST_F(PFlashTest, programming_clears_bits_and_never_sets_them) {
  program(0x123, 0x5a);
  EXPECT_EQ(status(), 0x80);
  program(0x123, 0xf0);
  write<std::uint8_t>(0, 0xff);
  EXPECT_EQ(read(0x123), 0x50);
  program(0x124, 0xff);
  ASSERT_EQ(array.writes.size(), 2U) << "what changes nothing is not written";
  EXPECT_EQ(array.writes[1].first, 0x123U);
  EXPECT_THAT(array.writes[1].second, ElementsAre(0x50));
}

TEST_F(PFlashTest, programming_takes_all_bytes_of_a_wide_cycle) {
  write<std::uint32_t>(0x1000, 0x40);
  write<std::uint32_t>(0x1000, 0xffff1234);
  EXPECT_EQ(read_as<std::uint16_t>(0x1000), 0x8080) << "status in each byte";
  write<std::uint8_t>(0, 0xff);
  EXPECT_EQ(read_as<std::uint32_t>(0x1000), 0xffff1234U);
  EXPECT_THAT(array.writes.back().second, ElementsAre(0x34, 0x12));
}

TEST_F(PFlashTest, erasing_sets_a_block_and_only_that) {
  for (const std::uint64_t offset : {0x0fffU, 0x1000U, 0x1fffU, 0x2000U}) program(offset, 0);
  write<std::uint8_t>(0x1234, 0x20);
  EXPECT_EQ(array.array[0x1000], 0) << "not yet";
  write<std::uint8_t>(0x1234, 0xd0);
  EXPECT_EQ(read(0x1234), 0x80) << "the status is read";
  write<std::uint8_t>(0, 0xff);
  EXPECT_EQ(read(0x0fff), 0);
  EXPECT_EQ(read(0x1000), 0xff);
  EXPECT_EQ(read(0x1fff), 0xff);
  EXPECT_EQ(read(0x2000), 0);
}

TEST_F(PFlashTest, erase_without_its_confirmation_is_a_sequence_error) {
  program(0, 0);
  write<std::uint8_t>(0, 0x20);
  write<std::uint8_t>(0, 0xff);
  EXPECT_EQ(status(), 0xb0);
  EXPECT_EQ(array.array[0], 0);
  write<std::uint8_t>(0, 0x50);
  EXPECT_EQ(status(), 0);
}

TEST_F(PFlashTest, store_that_refuses_gives_error_bits) {
  array.writable = false;
  program(0, 0);
  EXPECT_EQ(status(), 0x90);
  program(0, 0xff);
  EXPECT_EQ(status(), 0x90) << "even for what would change nothing: a driver asks so";
  write<std::uint8_t>(0, 0x50);
  write<std::uint8_t>(0, 0x20);
  write<std::uint8_t>(0, 0xd0);
  EXPECT_EQ(status(), 0xa0);
  EXPECT_EQ(array.array[0], 0xff);
}

TEST_F(PFlashTest, buffer_is_programmed_when_it_is_confirmed) {
  write<std::uint8_t>(0x2000, 0xe8);
  EXPECT_EQ(read(0x2000), 0x80) << "a buffer is free";
  write<std::uint8_t>(0x2000, 2);  // three cycles
  write<std::uint8_t>(0x2010, 1);
  write<std::uint8_t>(0x2011, 2);
  write<std::uint8_t>(0x2013, 4);
  EXPECT_EQ(array.array[0x2010], 0xff);
  write<std::uint8_t>(0x2000, 0xd0);
  EXPECT_EQ(read(0x2000), 0x80);
  ASSERT_EQ(array.writes.size(), 1U);
  EXPECT_EQ(array.writes[0].first, 0x2010U);
  EXPECT_THAT(array.writes[0].second, ElementsAre(1, 2, 0xff, 4));
}

TEST_F(PFlashTest, buffer_that_leaves_its_window_or_block_is_refused) {
  const auto refused = [&](std::uint8_t count, std::uint64_t first, std::uint64_t second) {
    write<std::uint8_t>(0, 0x50);
    write<std::uint8_t>(0x1000, 0xe8);
    write<std::uint8_t>(0x1000, count);
    write<std::uint8_t>(first, 0);
    write<std::uint8_t>(second, 0);
    write<std::uint8_t>(0x1000, 0xd0);
    return (status() & 0x30) == 0x30;
  };
  EXPECT_FALSE(refused(1, 0x1fff, 0x1fff));
  EXPECT_TRUE(refused(1, 0x1000, 0x1020));
  EXPECT_TRUE(refused(1, 0x1010, 0x100f));
  EXPECT_TRUE(refused(1, 0x1fff, 0x2000));
  EXPECT_TRUE(refused(1, 0x0fff, 0x1000));
  EXPECT_TRUE(refused(32, 0x1000, 0x1001));
  EXPECT_EQ(array.writes.size(), 1U);
}

TEST_F(PFlashTest, query_table_describes_this_chip) {
  write<std::uint8_t>(0x55, 0x98);
  EXPECT_EQ(read_as<std::uint16_t>(0x10), 'Q' | 'R' << 8);
  EXPECT_EQ(read(0x12), 'Y');
  EXPECT_EQ(read_as<std::uint16_t>(0x13), 1) << "Intel's command set";
  EXPECT_EQ(read_as<std::uint16_t>(0x15), 0x31);
  EXPECT_EQ(read(0x27), 20) << "84000h rounded up to a power of two";
  EXPECT_EQ(1U << read_as<std::uint16_t>(0x2a), PFlash::kBufferSize);
  EXPECT_EQ(read(0x2c), 1);
  EXPECT_EQ(read_as<std::uint16_t>(0x2d) + 1U, kBlocks);
  EXPECT_EQ(read_as<std::uint16_t>(0x2f) * 256U, PFlash::kBlockSize);
  EXPECT_EQ(read_as<std::uint32_t>(0x31), 'P' | 'R' << 8 | 'I' << 16 | '1' << 24);
  EXPECT_EQ(read(0xfff), 0);
  write<std::uint8_t>(0, 0xff);
  EXPECT_TRUE(flash.reads_array());
}

TEST_F(PFlashTest, identifier_is_intels) {
  write<std::uint8_t>(0, 0x90);
  EXPECT_EQ(read(0), 0x89);
  EXPECT_EQ(read(1), 0x16);
  EXPECT_EQ(read(2), 0) << "not locked";
  EXPECT_EQ(read(0x1000), 0x89);
}

TEST_F(PFlashTest, mode_is_told_when_reads_change_their_meaning) {
  std::vector<bool> modes;
  flash.on_mode = [&](bool array_mode) { modes.push_back(array_mode); };
  write<std::uint8_t>(0, 0xff);
  write<std::uint8_t>(0, 0x50);
  EXPECT_TRUE(modes.empty());
  program(0, 0);
  program(1, 0);
  write<std::uint8_t>(0, 0xff);
  EXPECT_THAT(modes, ElementsAre(false, true));
  write<std::uint8_t>(0, 0x98);
  flash.reset();
  EXPECT_THAT(modes, ElementsAre(false, true, false, true));
}

TEST_F(PFlashTest, unlocking_all_blocks_works_and_locking_does_not) {
  write<std::uint8_t>(0, 0x60);
  write<std::uint8_t>(0, 0xd0);
  EXPECT_EQ(status(), 0x80);
  write<std::uint8_t>(0, 0x60);
  write<std::uint8_t>(0, 0x01);
  EXPECT_EQ(status(), 0xb0);
}

TEST_F(PFlashTest, nothing_answers_behind_the_last_byte) {
  std::array<std::uint8_t, 8> data{};
  const std::uint64_t end = kBlocks * PFlash::kBlockSize;
  EXPECT_EQ(flash.read(end, data), Access::NoRegister);
  EXPECT_EQ(flash.read(end - 4, data), Access::NoRegister);
  EXPECT_EQ(flash.write(end - 4, data), Access::NoRegister);
  EXPECT_EQ(flash.read(end - 8, data), Access::Ok);
}

}  // namespace
}  // namespace vmm
