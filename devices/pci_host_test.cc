#include "devices/pci_host.h"

#include <gtest/gtest.h>

#include "devices/port_access.h"
#include "devices/reset_port.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

// A function whose configuration bytes are their own offsets.
class Counting final : public PciFunction {
 public:
  void read_config(std::uint8_t offset, std::span<std::uint8_t> data) override {
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(offset + i);
  }
  void write_config(std::uint8_t offset, std::span<const std::uint8_t> data) override {
    written.emplace_back(offset, load_uint(data));
  }
  std::vector<std::pair<std::uint8_t, std::uint64_t>> written;
};

class PciHostTest : public testing::Test {
 protected:
  int resets = 0;
  ResetPort reset_port{"reset", [this] { ++resets; }};
  PciHost pci{"pci", &reset_port};

  void address(std::uint32_t value) {
    std::array<std::uint8_t, 4> data;
    store(data, 0, value);
    ASSERT_EQ(pci.write(0, data), Access::Ok);
  }
  void select(unsigned device, unsigned function, unsigned offset, unsigned bus = 0) {
    address(0x8000'0000 | bus << 16 | device << 11 | function << 8 | (offset & 0xfc));
  }
  template <typename T>
  T read(unsigned device, unsigned function, unsigned offset) {
    select(device, function, offset);
    std::array<std::uint8_t, sizeof(T)> data{};
    EXPECT_EQ(pci.read(4 + offset % 4, data), Access::Ok);
    return load<T>(data);
  }
  template <typename T>
  void write(unsigned device, unsigned function, unsigned offset, T value) {
    select(device, function, offset);
    std::array<std::uint8_t, sizeof(T)> data;
    store(data, 0, value);
    EXPECT_EQ(pci.write(4 + offset % 4, data), Access::Ok);
  }
};

TEST_F(PciHostTest, the_address_reads_back_without_its_reserved_bits) {
  std::array<std::uint8_t, 4> data{};
  address(0x8000'0000);  // how kernels probe for mechanism 1
  ASSERT_EQ(pci.read(0, data), Access::Ok);
  EXPECT_EQ(load<std::uint32_t>(data), 0x8000'0000u);
  address(0xffff'ffff);
  ASSERT_EQ(pci.read(0, data), Access::Ok);
  EXPECT_EQ(load<std::uint32_t>(data), 0x80ff'fffcu);
}

TEST_F(PciHostTest, the_address_is_reached_by_dwords_only) {
  address(0x8000'0000);
  std::array<std::uint8_t, 8> data{};
  for (const std::size_t size : {1u, 2u, 8u}) {
    EXPECT_EQ(pci.read(0, std::span(data).first(size)), Access::BadWidth);
    EXPECT_EQ(pci.write(0, std::span(data).first(size)), Access::BadWidth);
  }
  EXPECT_EQ(pci.write(3, std::span(data).first(1)), Access::NoRegister);
  EXPECT_EQ(pci.state().config_address, 0x8000'0000u);
}

TEST_F(PciHostTest, a_byte_at_cf9_is_the_reset_port) {
  out(pci, 1, 0x02);
  EXPECT_EQ(in(pci, 1), 0x02);
  out(pci, 1, 0x06);
  EXPECT_EQ(resets, 1);
  std::array<std::uint8_t, 2> word{};
  EXPECT_EQ(pci.write(1, word), Access::BadWidth);
  PciHost alone("pci", nullptr);
  EXPECT_EQ(alone.read(1, std::span(word).first(1)), Access::NoRegister);
}

TEST_F(PciHostTest, the_bridges_and_the_power_management_function_are_there) {
  EXPECT_EQ(read<std::uint32_t>(0, 0, 0), 0x1237'8086u);
  EXPECT_EQ(read<std::uint32_t>(0, 0, 8), 0x0600'0002u);
  EXPECT_EQ(read<std::uint32_t>(1, 0, 0), 0x7000'8086u);
  EXPECT_EQ(read<std::uint32_t>(1, 0, 8), 0x0601'0000u);
  EXPECT_EQ(read<std::uint8_t>(1, 0, 0x0e), 0x80) << "more functions";
  EXPECT_EQ(read<std::uint32_t>(1, 3, 0), 0x7113'8086u);
  EXPECT_EQ(read<std::uint16_t>(1, 3, 0x0a), 0x0680);
}

TEST_F(PciHostTest, a_scan_finds_nothing_else) {
  unsigned found = 0;
  for (unsigned bus = 0; bus < 256; ++bus)
    for (unsigned place = 0; place < 256; ++place) {
      select(place >> 3, place & 7, 0, bus);
      std::array<std::uint8_t, 4> data{};
      ASSERT_EQ(pci.read(4, data), Access::Ok);
      if (load<std::uint32_t>(data) != 0xffff'ffff) ++found;
    }
  EXPECT_EQ(found, 3u);
}

TEST_F(PciHostTest, data_has_every_width_within_a_dword) {
  EXPECT_EQ(read<std::uint16_t>(0, 0, 0), 0x8086);
  EXPECT_EQ(read<std::uint16_t>(0, 0, 2), 0x1237);
  EXPECT_EQ(read<std::uint8_t>(0, 0, 3), 0x12);
  std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(pci.read(5, data), Access::BadWidth);
  EXPECT_EQ(pci.write(7, std::span(data).first(2)), Access::BadWidth);
  EXPECT_EQ(pci.read(8, std::span(data).first(1)), Access::NoRegister);
}

TEST_F(PciHostTest, without_the_enable_bit_nothing_answers) {
  address(0x0000'0000);
  std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(pci.read(4, data), Access::NoRegister);
  EXPECT_EQ(pci.write(4, data), Access::NoRegister);
}

TEST_F(PciHostTest, pmbase_is_where_the_tables_say) {
  EXPECT_EQ(read<std::uint32_t>(1, 3, 0x40), 0x601u);
  EXPECT_EQ(read<std::uint8_t>(1, 3, 0x80) & 1, 1);
  EXPECT_EQ(read<std::uint8_t>(1, 3, 0x3c), 9);
  write<std::uint32_t>(1, 3, 0x40, 0xb001);
  EXPECT_EQ(read<std::uint32_t>(1, 3, 0x40), 0x601u);
}

TEST_F(PciHostTest, pirq_routes_are_kept) {
  EXPECT_EQ(pci.pirq_route(0), std::nullopt);
  write<std::uint32_t>(1, 0, 0x60, 0xff0b'0a0a);
  EXPECT_EQ(read<std::uint32_t>(1, 0, 0x60), 0x8f0b'0a0au);
  EXPECT_EQ(pci.pirq_route(1), 10u);
  EXPECT_EQ(pci.pirq_route(2), 11u);
  EXPECT_EQ(pci.pirq_route(3), std::nullopt);
}

TEST_F(PciHostTest, pam_is_kept_and_identification_is_not_written) {
  write<std::uint32_t>(0, 0, 0x58, 0x3333'3000);
  EXPECT_EQ(read<std::uint32_t>(0, 0, 0x58), 0x3333'3000u);
  write<std::uint32_t>(0, 0, 0, 0);
  EXPECT_EQ(read<std::uint32_t>(0, 0, 0), 0x1237'8086u);
  pci.reset();
  EXPECT_EQ(read<std::uint32_t>(0, 0, 0x58), 0u);
}

TEST_F(PciHostTest, a_further_function_gets_its_accesses) {
  Counting function;
  pci.attach(5, 2, function);
  EXPECT_EQ(read<std::uint32_t>(5, 2, 0xfc), 0xfffe'fdfcu);
  EXPECT_EQ(read<std::uint8_t>(5, 2, 0x41), 0x41);
  write<std::uint16_t>(5, 2, 0x12, 0xabcd);
  EXPECT_EQ(function.written,
            (std::vector<std::pair<std::uint8_t, std::uint64_t>>{{0x12, 0xabcd}}));
  EXPECT_DEATH(pci.attach(5, 2, function), "there already");
  EXPECT_DEATH(pci.attach(32, 0, function), "32 devices");
}

TEST_F(PciHostTest, a_hostile_saved_state_changes_no_fixed_register) {
  StateBlock saved = save_state(pci);
  for (auto& [name, value] : saved.fields)
    value = value.size() == 512 ? std::string(512, 'f') : "0xffffffff";
  ASSERT_TRUE(load_state(pci, saved).has_value());
  EXPECT_EQ(read<std::uint32_t>(1, 3, 0x40), 0x601u);
  EXPECT_EQ(read<std::uint32_t>(0, 0, 0), 0x1237'8086u);
  EXPECT_EQ(read<std::uint32_t>(1, 0, 0x60), 0x8f8f'8f8fu);
}

// 290562 (PIIX4), PMBASE and PMREGMISC: the board comes as after power-on where firmware sets it
// up.
TEST_F(PciHostTest, firmware_says_where_the_acpi_registers_are) {
  PciHost raw{"pci", &reset_port, PciHost::SetUp::ByFirmware};
  const auto write_raw = [&](unsigned offset, std::uint8_t value) {
    std::array<std::uint8_t, 4> address;
    store(address, 0, 0x8000'0000 | 1u << 11 | 3u << 8 | (offset & 0xfc));
    ASSERT_EQ(raw.write(0, address), Access::Ok);
    const std::array<std::uint8_t, 1> data = {value};
    ASSERT_EQ(raw.write(4 + offset % 4, data), Access::Ok);
  };
  std::vector<std::optional<std::uint16_t>> seen;
  raw.on_pm_change = [&] { seen.push_back(raw.pm_base()); };
  EXPECT_EQ(raw.pm_base(), std::nullopt);
  write_raw(0x41, 0xb0);
  write_raw(0x40, 0x7f);
  EXPECT_EQ(raw.state().power_management[0x40], 0x41) << "bits 5:1 are 0, bit 0 is 1";
  write_raw(0x80, 0xff);
  EXPECT_EQ(raw.state().power_management[0x80], 0x01);
  EXPECT_EQ(raw.pm_base(), 0xb040);
  write_raw(0x80, 0x00);
  using Base = std::optional<std::uint16_t>;
  EXPECT_EQ(seen, (std::vector<Base>{std::nullopt, std::nullopt, 0xb040, std::nullopt}));
  raw.reset();
  EXPECT_EQ(raw.pm_base(), std::nullopt);
  EXPECT_EQ(raw.state().power_management[0x41], 0);
}

TEST_F(PciHostTest, without_firmware_the_acpi_registers_stay_at_600h) {
  write<std::uint16_t>(1, 3, 0x40, 0xb001);
  write<std::uint8_t>(1, 3, 0x80, 0);
  EXPECT_EQ(pci.pm_base(), 0x600);
}

}  // namespace
}  // namespace vmm
