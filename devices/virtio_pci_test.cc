#include "devices/virtio_pci.h"

#include <gmock/gmock.h>

#include "devices/virtio_rig.h"

namespace vmm {
namespace {

class VirtioPciTest : public VirtioRig {
 protected:
  // Offsets of the vendor capabilities by type, and of MSI-X as 11h + 0x100.
  std::map<unsigned, std::uint8_t> capabilities() {
    std::map<unsigned, std::uint8_t> found;
    std::uint8_t at = config<std::uint8_t>(0x34);
    for (int i = 0; i < 16 && at != 0; ++i) {
      const auto id = config<std::uint8_t>(at);
      found[id == 0x09 ? config<std::uint8_t>(static_cast<std::uint8_t>(at + 3)) : 0x100u + id] =
          at;
      at = config<std::uint8_t>(static_cast<std::uint8_t>(at + 1));
    }
    EXPECT_EQ(at, 0) << "the list ends";
    return found;
  }
  std::uint32_t size_bar(std::uint8_t bar) {
    const auto before = config<std::uint32_t>(bar);
    set_config(bar, 0xffff'ffffu);
    const auto mask = config<std::uint32_t>(bar);
    set_config(bar, before);
    return mask;
  }
};

TEST_F(VirtioPciTest, is_a_transitional_block_device) {
  EXPECT_EQ(config<std::uint32_t>(0x00), 0x1001'1af4u);
  EXPECT_EQ(config<std::uint32_t>(0x08), 0x0100'0000u) << "class 0100h, revision 0";
  EXPECT_EQ(config<std::uint32_t>(0x2c), 0x0002'1af4u);
  EXPECT_EQ(config<std::uint8_t>(0x0e), 0) << "a type 0 header, one function";
  EXPECT_EQ(config<std::uint8_t>(0x3d), 1) << "INTA#";
  EXPECT_EQ(config<std::uint16_t>(0x06), 0x0010) << "capabilities";
}

TEST_F(VirtioPciTest, bars_tell_their_size_and_can_be_moved) {
  EXPECT_EQ(size_bar(0x10), 0xffff'ff81u);
  EXPECT_EQ(size_bar(0x14), 0xffff'f000u);
  EXPECT_EQ(size_bar(0x20), 0xffff'c000u);
  for (const unsigned absent : {0x18u, 0x1cu, 0x24u, 0x30u})
    EXPECT_EQ(size_bar(static_cast<std::uint8_t>(absent)), 0u);
  EXPECT_TRUE(disk.windows().empty()) << "decoding is off after power-on";
  set_config(0x10, 0x0000'c105u);
  set_config(0x14, 0xfebf'1234u);
  set_config(0x20, 0xfe00'8000u);
  EXPECT_EQ(remaps, 0u);
  set_config(0x04, std::uint16_t{0x0003});
  EXPECT_EQ(remaps, 1u);
  EXPECT_THAT(disk.windows(), testing::ElementsAre(PciWindow{false, 0xc100, 0x80, 0},
                                                   PciWindow{true, 0xfebf'1000, 0x1000, 0x1000},
                                                   PciWindow{true, 0xfe00'8000, 0x4000, 0x4000}));
  set_config(0x04, std::uint16_t{0x0002});
  EXPECT_EQ(disk.windows().size(), 2u);
  EXPECT_EQ(remaps, 2u);
}

TEST_F(VirtioPciTest, firmware_assigns_resources_without_bus_mastering) {
  disk.assign({.io_base = 0xc080,
               .msix_base = 0xfe00'0000,
               .modern_base = 0xfe00'4000,
               .interrupt_line = 10});
  EXPECT_EQ(config<std::uint16_t>(0x04), 0x0003);
  EXPECT_EQ(config<std::uint32_t>(0x10), 0xc081u);
  EXPECT_EQ(config<std::uint8_t>(0x3c), 10);
  EXPECT_EQ(disk.windows().size(), 3u);
}

TEST_F(VirtioPciTest, every_capability_lies_within_its_bar) {
  const auto found = capabilities();
  EXPECT_EQ(found.size(), 6u);
  for (const unsigned type : {1u, 2u, 3u, 4u}) {
    ASSERT_TRUE(found.contains(type)) << type;
    const std::uint8_t at = found.at(type);
    EXPECT_EQ(config<std::uint8_t>(static_cast<std::uint8_t>(at + 4)), 4) << "BAR 4";
    const auto offset = config<std::uint32_t>(static_cast<std::uint8_t>(at + 8));
    const auto length = config<std::uint32_t>(static_cast<std::uint8_t>(at + 12));
    EXPECT_LE(offset + length, VirtioPci::kModernSize);
    EXPECT_GT(length, 0u);
  }
  EXPECT_TRUE(found.contains(5u)) << "the configuration window is mandatory";
  ASSERT_TRUE(found.contains(0x111u)) << "MSI-X";
  EXPECT_EQ(config<std::uint16_t>(static_cast<std::uint8_t>(found.at(0x111) + 2)), 1)
      << "two vectors";
}

TEST_F(VirtioPciTest, the_configuration_window_reaches_the_modern_registers) {
  const std::uint8_t at = capabilities().at(5);
  const auto aim = [&](std::uint8_t bar, std::uint32_t offset, std::uint32_t length) {
    set_config(static_cast<std::uint8_t>(at + 4), bar);
    set_config(static_cast<std::uint8_t>(at + 8), offset);
    set_config(static_cast<std::uint8_t>(at + 12), length);
  };
  const auto data = static_cast<std::uint8_t>(at + 16);
  aim(4, 0x2000, 4);
  EXPECT_EQ(config<std::uint32_t>(data), kSectors);
  aim(4, 0x14, 1);
  set_config(data, std::uint8_t{1});
  EXPECT_EQ(config<std::uint8_t>(data), 1) << "device status";
  EXPECT_EQ(read<std::uint8_t>(modern(0x14)), 1);
  for (const auto& [bar, offset, length] :
       {std::tuple<std::uint8_t, std::uint32_t, std::uint32_t>{0, 0, 4},
        {4, 2, 4},
        {4, 0x4000, 4},
        {4, 0xffff'fffc, 4},
        {4, 0, 0},
        {4, 0, 3},
        {4, 0, 8}}) {
    aim(bar, offset, length);
    set_config(data, 0xffff'ffffu);
    EXPECT_EQ(config<std::uint32_t>(data), 0u) << offset << " " << length;
  }
  EXPECT_EQ(read<std::uint8_t>(modern(0x14)), 1);
}

TEST_F(VirtioPciTest, the_legacy_registers_are_those_that_firmware_uses) {
  EXPECT_EQ(read<std::uint32_t>(0x00), 0x3000'0244u);
  EXPECT_EQ(read<std::uint16_t>(0x0c), 256);
  EXPECT_EQ(read<std::uint64_t>(0x14), kSectors);
  EXPECT_EQ(read<std::uint32_t>(0x28), 512u) << "blk_size";
  write(0x0e, std::uint16_t{1});
  EXPECT_EQ(read<std::uint16_t>(0x0c), 0) << "there is one queue";
  write(0x0e, std::uint16_t{0});
  write(0x08, 0x10u);
  EXPECT_EQ(read<std::uint32_t>(0x08), 0x10u);
  EXPECT_EQ(disk.state().queue.available, 0x11000u);
  EXPECT_EQ(disk.state().queue.used, 0x12000u);
  write(0x08, 0u);
  EXPECT_FALSE(disk.state().queue.enabled);
}

TEST_F(VirtioPciTest, msix_moves_the_legacy_configuration) {
  set_config(0x42, std::uint16_t{0x8000});
  EXPECT_EQ(read<std::uint64_t>(0x18), kSectors);
  write(0x14, std::uint16_t{1});
  write(0x16, std::uint16_t{2});
  EXPECT_EQ(read<std::uint16_t>(0x14), 1);
  EXPECT_EQ(read<std::uint16_t>(0x16), 0xffff) << "there is no vector 2";
}

TEST_F(VirtioPciTest, a_modern_driver_must_know_version_1) {
  const auto features_ok = [this](std::uint64_t features) {
    write(modern(0x14), std::uint8_t{0});
    write(modern(0x14), std::uint8_t{3});
    for (const std::uint32_t half : {0u, 1u}) {
      write(modern(0x08), half);
      write(modern(0x0c), static_cast<std::uint32_t>(features >> 32 * half));
    }
    write(modern(0x14), std::uint8_t{0x0b});
    return (read<std::uint8_t>(modern(0x14)) & 8) != 0;
  };
  EXPECT_FALSE(features_ok(0));
  EXPECT_TRUE(features_ok(kVersion1));
  EXPECT_FALSE(features_ok(kVersion1 | 1u << 5)) << "RO was not offered";
  EXPECT_FALSE(features_ok(kVersion1 | std::uint64_t{1} << 63));
  EXPECT_TRUE(features_ok(kVersion1 | 1u << 9));
  write(modern(0x08), 0u);
  write(modern(0x0c), 0u);
  EXPECT_EQ(read<std::uint32_t>(modern(0x0c)), 1u << 9) << "fixed since FEATURES_OK";
}

TEST_F(VirtioPciTest, modern_features_are_read_in_halves) {
  write(modern(0x00), 0u);
  EXPECT_EQ(read<std::uint32_t>(modern(0x04)), 0x3000'0244u);
  write(modern(0x00), 1u);
  EXPECT_EQ(read<std::uint32_t>(modern(0x04)), 1u);
  write(modern(0x00), 2u);
  EXPECT_EQ(read<std::uint32_t>(modern(0x04)), 0u);
}

TEST_F(VirtioPciTest, an_enabled_queue_cannot_be_moved) {
  start_modern(kVersion1, 16);
  write(modern(0x18), std::uint16_t{64});
  write(modern(0x20), std::uint64_t{0x99000});
  EXPECT_EQ(read<std::uint16_t>(modern(0x18)), 16);
  EXPECT_EQ(read<std::uint64_t>(modern(0x20)), rings.descriptors);
  EXPECT_EQ(read<std::uint32_t>(modern(0x2c)), 0u);
  EXPECT_EQ(read<std::uint16_t>(modern(0x1c)), 1);
}

TEST_F(VirtioPciTest, a_served_request_raises_intx_until_the_isr_is_read) {
  start_legacy();
  request(0, 0, 512);
  work();
  ASSERT_THAT(irq.changes, testing::ElementsAre(std::pair(1u, true)));
  EXPECT_EQ(config<std::uint16_t>(0x06) & 8, 8) << "interrupt status";
  EXPECT_EQ(read<std::uint8_t>(0x13), 1);
  EXPECT_THAT(irq.changes, testing::ElementsAre(std::pair(1u, true), std::pair(1u, false)));
  EXPECT_EQ(read<std::uint8_t>(0x13), 0);
}

TEST_F(VirtioPciTest, intx_can_be_switched_off) {
  start_modern(kVersion1);
  set_config(0x04, std::uint16_t{0x0407});
  request(0, 0, 512);
  work();
  EXPECT_TRUE(irq.changes.empty());
  set_config(0x04, std::uint16_t{0x0007});
  EXPECT_THAT(irq.changes, testing::ElementsAre(std::pair(1u, true)));
  EXPECT_EQ(read<std::uint8_t>(modern(0x1000)), 1);
  EXPECT_EQ(irq.changes.size(), 2u);
}

TEST_F(VirtioPciTest, msix_takes_the_place_of_intx) {
  start_modern(kVersion1);
  set_config(0x42, std::uint16_t{0x8000});
  write(VirtioPci::kMsixOffset + 16, std::uint64_t{0xfee0'0000});
  write(VirtioPci::kMsixOffset + 24, 0x51u);
  write(VirtioPci::kMsixOffset + 28, 0u);
  request(0, 0, 512);
  work();
  EXPECT_TRUE(messages.empty()) << "the queue has no vector yet";
  write(modern(0x1a), std::uint16_t{1});
  request(0, 0, 512);
  work();
  EXPECT_THAT(messages, testing::ElementsAre(MsiMessage{0xfee0'0000, 0x51}));
  EXPECT_TRUE(irq.changes.empty());
  EXPECT_EQ(read<std::uint8_t>(modern(0x1000)), 0) << "the ISR is INTx's";
}

TEST_F(VirtioPciTest, a_malformed_ring_needs_a_reset) {
  start_modern(kVersion1);
  rings.offer(256);
  EXPECT_EQ(work(), 0u);
  EXPECT_EQ(read<std::uint8_t>(modern(0x14)), 0x4f);
  EXPECT_EQ(read<std::uint8_t>(modern(0x1000)), 2) << "configuration change";
  EXPECT_EQ(disk.problem(), "a descriptor's index is outside of its table");
  rings.start_at(0);
  request(0, 0, 512);
  EXPECT_EQ(work(), 0u) << "it stays stopped";
  rings.start_at(0);
  start_modern(kVersion1);
  request(0, 0, 512);
  EXPECT_EQ(work(), 1u);
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(disk.problem(), "");
}

TEST_F(VirtioPciTest, a_legacy_driver_sees_a_device_that_stopped) {
  start_legacy();
  rings.offer(256);
  EXPECT_EQ(work(), 0u);
  EXPECT_EQ(read<std::uint8_t>(0x12), 7) << "there is no bit for it";
  EXPECT_TRUE(irq.changes.empty());
  EXPECT_FALSE(disk.problem().empty());
}

TEST_F(VirtioPciTest, a_reset_by_the_driver_leaves_the_pci_side_alone) {
  disk.assign({.io_base = 0xc000, .msix_base = 0xfe00'0000, .modern_base = 0xfe00'4000});
  start_modern(kVersion1);
  set_config(0x42, std::uint16_t{0x8000});
  write(modern(0x14), std::uint8_t{0});
  EXPECT_EQ(read<std::uint8_t>(modern(0x14)), 0);
  EXPECT_EQ(read<std::uint16_t>(modern(0x1c)), 0);
  EXPECT_EQ(disk.windows().size(), 3u);
  EXPECT_EQ(config<std::uint16_t>(0x42), 0x8001);
  disk.reset();
  EXPECT_TRUE(disk.windows().empty());
  EXPECT_EQ(config<std::uint16_t>(0x42), 0x0001);
}

TEST_F(VirtioPciTest, registers_have_their_width) {
  std::array<std::uint8_t, 8> data{};
  const std::span<std::uint8_t> all(data);
  EXPECT_EQ(disk.read(0x00, all.first(1)), Access::BadWidth);
  EXPECT_EQ(disk.write(0x10, all.first(4)), Access::BadWidth);
  EXPECT_EQ(disk.read(0x13, all.first(2)), Access::BadWidth);
  EXPECT_EQ(disk.read(0x01, all.first(1)), Access::NoRegister);
  EXPECT_EQ(disk.read(modern(0x14), all.first(4)), Access::BadWidth);
  EXPECT_EQ(disk.read(modern(0x02), all.first(2)), Access::NoRegister);
  EXPECT_EQ(disk.read(modern(0x00), all), Access::BadWidth) << "two registers, not one";
  EXPECT_EQ(disk.read(modern(0x38), all.first(4)), Access::NoRegister);
  EXPECT_EQ(disk.write(modern(0x3000), all.first(1)), Access::BadWidth);
  EXPECT_EQ(disk.read(0x80, all.first(1)), Access::NoRegister);
}

TEST_F(VirtioPciTest, a_loaded_line_makes_no_edge) {
  start_legacy();
  request(0, 0, 512);
  work();
  const StateBlock saved = save_state(disk);
  read<std::uint8_t>(0x13);
  irq.changes.clear();
  ASSERT_TRUE(load_state(disk, saved));
  EXPECT_TRUE(irq.changes.empty());
  EXPECT_EQ(read<std::uint8_t>(0x13), 1);
}

}  // namespace
}  // namespace vmm
