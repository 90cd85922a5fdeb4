#include "devices/fw_cfg.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

constexpr std::uint32_t kError = 1;
constexpr std::uint32_t kRead = 2;
constexpr std::uint32_t kSkip = 4;
constexpr std::uint32_t kSelect = 8;
constexpr std::uint32_t kWrite = 0x10;

template <typename T>
void put_big(std::span<std::uint8_t> bytes, std::size_t offset, T value) {
  for (std::size_t i = 0; i < sizeof value; ++i)
    bytes[offset + i] = static_cast<std::uint8_t>(value >> (8 * (sizeof value - 1 - i)));
}

class FwCfgTest : public testing::Test {
 protected:
  static constexpr Gpa kDescriptor = 0x1000;
  static constexpr Gpa kTarget = 0x2000;

  GuestMemory memory = std::move(GuestMemory::create(4_MiB)).value();
  FwCfg fw_cfg{"fw-cfg", &memory};

  void select(unsigned key) {
    std::array<std::uint8_t, 2> data;
    store(data, 0, static_cast<std::uint16_t>(key));
    ASSERT_EQ(fw_cfg.write(0, data), Access::Ok);
  }
  std::uint64_t read_item(unsigned key, unsigned size) {
    select(key);
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{in(fw_cfg, 1)} << (8 * i);
    return value;
  }
  std::string read_text(unsigned size) {
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += static_cast<char>(in(fw_cfg, 1));
    return text;
  }
  // Starts a transfer as drivers do, by two dwords; returns the control field afterwards.
  std::uint32_t dma(std::uint32_t control, std::uint32_t length, Gpa address = kTarget,
                    Gpa descriptor = kDescriptor) {
    std::array<std::uint8_t, 16> bytes{};
    put_big(bytes, 0, control);
    put_big(bytes, 4, length);
    put_big(bytes, 8, address);
    (void)memory.write(descriptor, bytes);
    std::array<std::uint8_t, 4> half{};
    put_big(half, 0, static_cast<std::uint32_t>(descriptor >> 32));
    EXPECT_EQ(fw_cfg.write(4, half), Access::Ok);
    put_big(half, 0, static_cast<std::uint32_t>(descriptor));
    EXPECT_EQ(fw_cfg.write(8, half), Access::Ok);
    return __builtin_bswap32(memory.read_value<std::uint32_t>(descriptor).value_or(0));
  }
  std::string target(std::size_t size) {
    std::string text(size, '?');
    for (std::size_t i = 0; i < size; ++i) text[i] = *memory.read_value<char>(kTarget + i);
    return text;
  }
  static std::vector<std::uint8_t> bytes(std::string_view text) {
    return {text.begin(), text.end()};
  }
};

TEST_F(FwCfgTest, the_signature_is_selected_after_power_on) {
  EXPECT_EQ(read_text(5), std::string("QEMU\0", 5));
  fw_cfg.reset();
  EXPECT_EQ(read_text(4), "QEMU");
}

TEST_F(FwCfgTest, the_id_says_whether_there_is_dma) {
  EXPECT_EQ(read_item(1, 4), 3u);
  FwCfg without("fw-cfg", nullptr);
  const std::uint8_t key[] = {1, 0};
  ASSERT_EQ(without.write(0, key), Access::Ok);
  EXPECT_EQ(in(without, 1), 1);
  std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(without.read(4, data), Access::NoRegister);
  EXPECT_EQ(without.write(8, data), Access::NoRegister);
}

TEST_F(FwCfgTest, the_machine_items_are_little_endian_numbers) {
  add_machine_items(fw_cfg, 3, 64, 0x1'2345'6000);
  EXPECT_EQ(read_item(3, 8), 0x1'2345'6000u);
  EXPECT_EQ(read_item(4, 2), 1u);
  EXPECT_EQ(read_item(5, 2), 3u);
  EXPECT_EQ(read_item(0x0d, 8), 0u);
  EXPECT_EQ(read_item(0x0e, 2), 0u);
  EXPECT_EQ(read_item(0x0f, 2), 64u);
  EXPECT_EQ(read_item(0x11, 8), 0u) << "no limit on the RAM that tests use";
}

TEST_F(FwCfgTest, keys_that_are_not_there_and_ends_of_items_read_zero) {
  EXPECT_EQ(read_item(0x4711, 4), 0u);
  EXPECT_EQ(read_item(0xffff, 4), 0u);
  EXPECT_EQ(read_item(1, 8), 3u);
  EXPECT_EQ(read_item(0x4001, 4), 3u) << "the write channel has the same items";
  EXPECT_EQ(read_item(0x8001, 4), 0u) << "the architecture's keys are keys of their own";
}

TEST_F(FwCfgTest, selecting_starts_over) {
  select(0);
  EXPECT_EQ(read_text(2), "QE");
  select(0);
  EXPECT_EQ(read_text(2), "QE");
}

TEST_F(FwCfgTest, the_directory_lists_files_big_endian) {
  fw_cfg.add_file("etc/system-states", bytes("abc"));
  fw_cfg.add_file("bootorder", bytes("none"));
  std::string expected("\0\0\0\2", 4);
  const auto entry = [&](const std::string& text, const std::string& name) {
    expected += text + name + std::string(56 - name.size(), '\0');
  };
  entry(std::string("\0\0\0\4\0\x21\0\0", 8), "bootorder");
  entry(std::string("\0\0\0\3\0\x20\0\0", 8), "etc/system-states");
  select(0x19);
  EXPECT_EQ(read_text(4 + 2 * 64), expected);
  EXPECT_EQ(in(fw_cfg, 1), 0);
  select(0x21);
  EXPECT_EQ(read_text(4), "none");
}

TEST_F(FwCfgTest, an_empty_directory_counts_no_files) {
  select(0x19);
  EXPECT_EQ(read_text(4), std::string(4, '\0'));
}

TEST_F(FwCfgTest, widths_are_those_of_the_interface) {
  std::array<std::uint8_t, 8> data{};
  const auto wide = [&](std::size_t size) { return std::span(data).first(size); };
  EXPECT_EQ(fw_cfg.write(0, wide(1)), Access::BadWidth);
  EXPECT_EQ(fw_cfg.write(0, wide(4)), Access::BadWidth);
  EXPECT_EQ(fw_cfg.read(1, wide(2)), Access::BadWidth);
  EXPECT_EQ(fw_cfg.read(0, wide(2)), Access::NoRegister);
  EXPECT_EQ(fw_cfg.write(2, wide(1)), Access::NoRegister);
  EXPECT_EQ(fw_cfg.write(4, wide(2)), Access::BadWidth);
  EXPECT_EQ(fw_cfg.write(8, wide(8)), Access::BadWidth);
  EXPECT_EQ(fw_cfg.read(12, wide(1)), Access::NoRegister);
}

TEST_F(FwCfgTest, the_dma_register_reads_its_signature) {
  std::array<std::uint8_t, 8> data{};
  ASSERT_EQ(fw_cfg.read(4, data), Access::Ok);
  EXPECT_EQ(std::string(data.begin(), data.end()), "QEMU CFG");
  ASSERT_EQ(fw_cfg.read(8, std::span(data).first(4)), Access::Ok);
  EXPECT_EQ(std::string(data.begin(), data.begin() + 4), " CFG");
}

TEST_F(FwCfgTest, dma_selects_and_reads) {
  fw_cfg.add(0x11, bytes("kernel"));
  EXPECT_EQ(dma(0x11U << 16 | kSelect | kRead, 6), 0u);
  EXPECT_EQ(target(6), "kernel");
}

TEST_F(FwCfgTest, dma_goes_on_where_it_stopped_and_skips) {
  fw_cfg.add(0x11, bytes("0123456789"));
  select(0x11);
  EXPECT_EQ(dma(kRead, 2), 0u);
  EXPECT_EQ(dma(kSkip, 3), 0u);
  EXPECT_EQ(dma(kRead, 2), 0u);
  EXPECT_EQ(target(2), "56");
  EXPECT_EQ(in(fw_cfg, 1), '7');
  EXPECT_EQ(dma(kSkip, 0xffff'ffff), 0u);
  EXPECT_EQ(in(fw_cfg, 1), 0);
  EXPECT_EQ(fw_cfg.state().offset, 10u);
}

TEST_F(FwCfgTest, dma_pads_with_zeroes) {
  std::fill_n(memory.regions()[0].host.begin() + kTarget, 0x20, std::uint8_t{0xaa});
  EXPECT_EQ(dma(kSelect | kRead, 8), 0u);
  EXPECT_EQ(target(9), std::string("QEMU\0\0\0\0\xaa", 9));
  EXPECT_EQ(dma(0x7777U << 16 | kSelect | kRead, 8), 0u);
  EXPECT_EQ(target(4), std::string(4, '\0'));
}

TEST_F(FwCfgTest, eight_bytes_at_once_start_a_transfer_too) {
  std::array<std::uint8_t, 16> descriptor{};
  put_big(descriptor, 0, kSelect | kRead);
  put_big(descriptor, 4, std::uint32_t{4});
  put_big(descriptor, 8, std::uint64_t{kTarget});
  ASSERT_TRUE(memory.write(kDescriptor, descriptor));
  std::array<std::uint8_t, 8> address{};
  put_big(address, 0, std::uint64_t{kDescriptor});
  EXPECT_EQ(fw_cfg.write(4, address), Access::Ok);
  EXPECT_EQ(target(4), "QEMU");
}

TEST_F(FwCfgTest, the_high_half_of_the_address_counts_once) {
  EXPECT_EQ(dma(kSelect | kRead, 4, kTarget, 0x1'0000'1000), 0u) << "nothing there to report to";
  EXPECT_EQ(fw_cfg.state().dma_high, 0u);
  EXPECT_EQ(memory.read_value<std::uint32_t>(kTarget), 0u);
}

TEST_F(FwCfgTest, writing_items_is_an_error) {
  EXPECT_EQ(dma(kSelect | kWrite, 4), kError);
  select(0);
  EXPECT_EQ(read_text(4), "QEMU");
}

TEST_F(FwCfgTest, a_target_outside_of_ram_is_an_error_and_reads_nothing) {
  select(0);
  EXPECT_EQ(dma(kRead, 4, 4_MiB - 2), kError);
  EXPECT_EQ(dma(kRead, 4, ~std::uint64_t{1}), kError);
  EXPECT_EQ(dma(kRead, 0, ~std::uint64_t{0}), 0u);
  EXPECT_EQ(fw_cfg.state().offset, 0u);
}

TEST_F(FwCfgTest, a_descriptor_at_the_end_of_ram_reports_the_error_where_it_can) {
  const Gpa at = 4_MiB - 8;
  std::array<std::uint8_t, 4> low{};
  put_big(low, 0, static_cast<std::uint32_t>(at));
  EXPECT_EQ(fw_cfg.write(8, low), Access::Ok);
  EXPECT_EQ(memory.read_value<std::uint32_t>(at), __builtin_bswap32(kError));
}

TEST_F(FwCfgTest, lengths_beyond_reason_are_refused) {
  EXPECT_EQ(dma(kSelect | kRead, 0xffff'ffff), kError);
  EXPECT_EQ(dma(kSelect | kRead, 4 + FwCfg::kMaxPadding + 1), kError);
  EXPECT_EQ(dma(kSelect | kRead, 4 + FwCfg::kMaxPadding), 0u);
}

TEST_F(FwCfgTest, more_than_64_mib_are_not_copied_at_once) {
  GuestMemory large = std::move(GuestMemory::create(256_MiB)).value();
  FwCfg with_initrd("fw-cfg", &large);
  with_initrd.add(0x12, std::vector<std::uint8_t>(FwCfg::kMaxCopy + 1, 0x42));
  const auto start = [&](std::uint32_t control, std::uint64_t length) {
    std::array<std::uint8_t, 16> descriptor{};
    put_big(descriptor, 0, control);
    put_big(descriptor, 4, static_cast<std::uint32_t>(length));
    put_big(descriptor, 8, std::uint64_t{1_MiB});
    EXPECT_TRUE(large.write(kDescriptor, descriptor));
    std::array<std::uint8_t, 8> address{};
    put_big(address, 0, std::uint64_t{kDescriptor});
    EXPECT_EQ(with_initrd.write(4, address), Access::Ok);
    return large.read_value<std::uint32_t>(kDescriptor);
  };
  EXPECT_EQ(start(0x12U << 16 | kSelect | kRead, FwCfg::kMaxCopy + 1), __builtin_bswap32(kError));
  EXPECT_EQ(start(kRead, FwCfg::kMaxCopy), 0u);
  EXPECT_EQ(start(kRead, 1), 0u);
  EXPECT_EQ(with_initrd.state().offset, FwCfg::kMaxCopy + 1);
}

TEST_F(FwCfgTest, a_hostile_saved_offset_ends_at_the_item) {
  StateBlock saved = save_state(fw_cfg);
  for (auto& [name, value] : saved.fields)
    if (name == "offset") value = "0xffffffff";
  ASSERT_TRUE(load_state(fw_cfg, saved).has_value());
  EXPECT_EQ(in(fw_cfg, 1), 0);
  EXPECT_EQ(fw_cfg.state().offset, 4u);
}

TEST_F(FwCfgTest, mistakes_of_the_board_are_checks) {
  EXPECT_DEATH(fw_cfg.add(1, {}), "twice");
  EXPECT_DEATH(fw_cfg.add(0x4100, {}), "bit 14");
  EXPECT_DEATH(fw_cfg.add_file("", {}), "1 to 55");
  EXPECT_DEATH(fw_cfg.add_file(std::string(56, 'x'), {}), "1 to 55");
}

}  // namespace
}  // namespace vmm
