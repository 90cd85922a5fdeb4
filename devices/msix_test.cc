#include "devices/msix.h"

#include <gtest/gtest.h>

#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

class MsixTest : public testing::Test {
 protected:
  MsixState state;
  std::vector<MsiMessage> sent;
  MsixSend send = [this](const MsiMessage& message) { sent.push_back(message); };

  void write(std::uint64_t offset, std::uint32_t value) {
    std::array<std::uint8_t, 4> data;
    store(data, 0, value);
    ASSERT_EQ(msix_write(state, offset, data, send), Access::Ok);
  }
  std::uint32_t read(std::uint64_t offset) {
    std::array<std::uint8_t, 4> data{};
    EXPECT_EQ(msix_read(state, offset, data), Access::Ok);
    return load<std::uint32_t>(data);
  }
  void fill(unsigned vector, std::uint32_t address, std::uint32_t data) {
    write(vector * 16, address);
    write(vector * 16 + 4, 0);
    write(vector * 16 + 8, data);
    write(vector * 16 + 12, 0);
  }
};

TEST_F(MsixTest, everything_is_masked_and_off_after_power_on) {
  EXPECT_EQ(msix_control(state), 0x0001);
  EXPECT_EQ(read(12), 1u);
  EXPECT_EQ(read(28), 1u);
  msix_signal(state, 0, send);
  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(read(kMsixPendingOffset), 0u) << "off: it is not even pending";
}

TEST_F(MsixTest, a_vector_sends_its_message) {
  set_msix_control(state, 0x8000, send);
  fill(1, 0xfee0'1004, 0x45);
  msix_signal(state, 1, send);
  msix_signal(state, 2, send);
  msix_signal(state, 0xffff, send);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0], (MsiMessage{0xfee0'1004, 0x45}));
}

TEST_F(MsixTest, a_masked_vector_waits_in_the_pending_bits) {
  set_msix_control(state, 0x8000, send);
  fill(0, 0xfee0'0000, 0x30);
  write(12, 1);
  msix_signal(state, 0, send);
  msix_signal(state, 0, send);
  EXPECT_EQ(read(kMsixPendingOffset), 1u);
  EXPECT_TRUE(sent.empty());
  write(12, 0);
  EXPECT_EQ(sent.size(), 1u) << "once, however often it was asked for";
  EXPECT_EQ(read(kMsixPendingOffset), 0u);
}

TEST_F(MsixTest, so_does_all_of_a_masked_function) {
  set_msix_control(state, 0xc000, send);
  fill(0, 0xfee0'0000, 0x30);
  fill(1, 0xfee0'0000, 0x31);
  msix_signal(state, 1, send);
  msix_signal(state, 0, send);
  EXPECT_TRUE(sent.empty());
  set_msix_control(state, 0x8000, send);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].data, 0x30u);
}

TEST_F(MsixTest, eight_bytes_reach_two_registers) {
  std::array<std::uint8_t, 8> data;
  store(data, 0, std::uint64_t{0x1234'5678'fee0'1003});
  ASSERT_EQ(msix_write(state, 16, data, send), Access::Ok);
  EXPECT_EQ(read(16), 0xfee0'1000u) << "bits 1 and 0 are not there";
  EXPECT_EQ(read(20), 0x1234'5678u);
  EXPECT_EQ(msix_read(state, 20, data), Access::BadWidth) << "unaligned";
}

TEST_F(MsixTest, other_widths_are_refused_and_other_offsets_empty) {
  std::array<std::uint8_t, 8> data{};
  const std::span<std::uint8_t> all(data);
  EXPECT_EQ(msix_read(state, 0, all.first(1)), Access::BadWidth);
  EXPECT_EQ(msix_read(state, 2, all.first(4)), Access::BadWidth);
  EXPECT_EQ(msix_write(state, 0, all.first(2), send), Access::BadWidth);
  EXPECT_EQ(msix_read(state, kMsixWindowSize, all.first(4)), Access::NoRegister);
  write(32, 0xffff'ffff);
  write(kMsixPendingOffset, 0xffff'ffff);
  EXPECT_EQ(read(32), 0u);
  EXPECT_EQ(read(kMsixPendingOffset), 0u) << "the function's own";
}

TEST(Msi, is_decoded_as_local_apics_see_it) {
  EXPECT_EQ(decode_msi({0xfee0'3000, 0x4041}), (ApicMessage{.destination = 3, .vector = 0x41}));
  EXPECT_EQ(decode_msi({0xfeef'f000, 0x41}),
            (ApicMessage{.destination = kApicBroadcast, .vector = 0x41}));
  EXPECT_EQ(decode_msi({0xfee0'300c, 0x0141}), (ApicMessage{.destination = 3,
                                                            .logical = true,
                                                            .mode = DeliveryMode::LowestPriority,
                                                            .vector = 0x41}));
  EXPECT_EQ(decode_msi({0xfee0'1000, 0xc041}),
            (ApicMessage{.destination = 1, .vector = 0x41, .level_triggered = true}));
  EXPECT_EQ(decode_msi({0xfed0'0000, 0x41}), std::nullopt);
  EXPECT_EQ(decode_msi({0x1'fee0'0000, 0x41}), std::nullopt);
  EXPECT_EQ(decode_msi({0, 0}), std::nullopt);
  EXPECT_EQ(decode_msi({0xfee0'0000, 0x0341}), std::nullopt) << "a reserved mode";
  EXPECT_EQ(decode_msi({0xfee0'0000, 0x0641}), std::nullopt) << "no SIPI by MSI";
}

}  // namespace
}  // namespace vmm
