#include "loader/acpi_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<std::uint8_t>;

BoardDescription board_of(unsigned cpus, std::uint32_t first_id = 0) {
  BoardDescription board;
  for (unsigned i = 0; i < cpus; ++i) board.apic_ids.push_back(first_id + i);
  return board;
}

unsigned sum(std::span<const std::uint8_t> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0U) & 0xff;
}

void expect_sound(const Bytes& table, std::string_view signature) {
  ASSERT_GE(table.size(), 36u);
  EXPECT_EQ(std::string(table.begin(), table.begin() + 4), signature);
  EXPECT_EQ(load<std::uint32_t>(table, 4), table.size());
  EXPECT_EQ(sum(table), 0u) << signature;
}

TEST(AcpiTables, the_pointer_has_both_checksums) {
  const Bytes rsdp = make_rsdp(0xe0080, 0xe00c0);
  ASSERT_EQ(rsdp.size(), 36u);
  EXPECT_EQ(std::string(rsdp.begin(), rsdp.begin() + 8), "RSD PTR ");
  EXPECT_EQ(rsdp[15], 2);
  EXPECT_EQ(load<std::uint32_t>(rsdp, 16), 0xe0080u);
  EXPECT_EQ(load<std::uint32_t>(rsdp, 20), 36u);
  EXPECT_EQ(load<std::uint64_t>(rsdp, 24), 0xe00c0u);
  EXPECT_EQ(sum(std::span(rsdp).first(20)), 0u);
  EXPECT_EQ(sum(rsdp), 0u);
}

TEST(AcpiTables, the_lists_hold_the_same_tables) {
  const std::vector<std::uint32_t> tables = {0xe0100, 0xe1000};
  const Bytes rsdt = make_rsdt(tables);
  const Bytes xsdt = make_xsdt(tables);
  expect_sound(rsdt, "RSDT");
  expect_sound(xsdt, "XSDT");
  ASSERT_EQ(rsdt.size(), 36u + 8);
  ASSERT_EQ(xsdt.size(), 36u + 16);
  EXPECT_EQ(load<std::uint32_t>(rsdt, 40), 0xe1000u);
  EXPECT_EQ(load<std::uint64_t>(xsdt, 44), 0xe1000u);
}

TEST(AcpiTables, the_8042_is_told_where_someone_can_type) {
  BoardDescription board = board_of(1);
  EXPECT_EQ(load<std::uint16_t>(make_fadt(board, 0, 0), 109), 1u);
  const Bytes without = make_dsdt(board);
  board.keyboard = true;
  EXPECT_EQ(load<std::uint16_t>(make_fadt(board, 0, 0), 109), 3u);
  const Bytes with = make_dsdt(board);
  EXPECT_GT(with.size(), without.size());
  expect_sound(with, "DSDT");
}

TEST(AcpiTables, the_fadt_says_where_the_fixed_hardware_is) {
  const Bytes fadt = make_fadt(board_of(1), 0xe0040, 0xe0200);
  expect_sound(fadt, "FACP");
  EXPECT_EQ(fadt.size(), 244u);
  EXPECT_EQ(fadt[8], 3);
  EXPECT_EQ(load<std::uint32_t>(fadt, 36), 0xe0040u);
  EXPECT_EQ(load<std::uint32_t>(fadt, 40), 0xe0200u);
  EXPECT_EQ(load<std::uint64_t>(fadt, 132), 0xe0040u) << "Xen misses the second one";
  EXPECT_EQ(load<std::uint64_t>(fadt, 140), 0xe0200u);
  EXPECT_EQ(load<std::uint16_t>(fadt, 46), 9);
  EXPECT_EQ(load<std::uint32_t>(fadt, 48), 0u) << "no SMI_CMD: ACPI mode from the start";
  EXPECT_EQ(load<std::uint32_t>(fadt, 56), 0x600u);
  EXPECT_EQ(load<std::uint32_t>(fadt, 64), 0x604u);
  EXPECT_EQ(load<std::uint32_t>(fadt, 76), 0x608u);
  EXPECT_EQ(fadt[88], 4);
  EXPECT_EQ(fadt[89], 2);
  EXPECT_EQ(fadt[91], 4);
  EXPECT_EQ(fadt[108], 0x32);
  const auto boot = load<std::uint16_t>(fadt, 109);
  EXPECT_FALSE(bit(boot, 1)) << "no 8042";
  EXPECT_FALSE(bit(boot, 2)) << "VGA is there";
  EXPECT_FALSE(bit(boot, 5)) << "so is the CMOS RTC";
  const auto flags = load<std::uint32_t>(fadt, 112);
  EXPECT_TRUE(bit(flags, 8)) << "TMR_VAL_EXT";
  EXPECT_TRUE(bit(flags, 10)) << "RESET_REG_SUP";
  EXPECT_FALSE(bit(flags, 4)) << "a power button";
  EXPECT_FALSE(bit(flags, 6)) << "an RTC alarm in PM1_STS";
  EXPECT_FALSE(bit(flags, 20)) << "not hardware-reduced";
}

TEST(AcpiTables, the_fadts_addresses_agree_and_reset_is_at_cf9) {
  const Bytes fadt = make_fadt(board_of(1), 0, 0);
  const auto expect_io = [&](std::size_t offset, unsigned bits, std::uint64_t port) {
    EXPECT_EQ(fadt[offset], 1) << offset;
    EXPECT_EQ(fadt[offset + 1], bits) << offset;
    EXPECT_EQ(load<std::uint64_t>(fadt, offset + 4), port) << offset;
  };
  expect_io(116, 8, 0xcf9);
  EXPECT_EQ(fadt[128], 0x0f);
  expect_io(148, 32, 0x600);
  expect_io(172, 16, 0x604);
  expect_io(208, 32, 0x608);
}

TEST(AcpiTables, the_fadt_follows_the_board) {
  BoardDescription board = board_of(1);
  board.pm_base = 0xb000;
  board.sci = 10;
  const Bytes fadt = make_fadt(board, 0, 0);
  EXPECT_EQ(load<std::uint32_t>(fadt, 76), 0xb008u);
  EXPECT_EQ(load<std::uint64_t>(fadt, 208 + 4), 0xb008u);
  EXPECT_EQ(load<std::uint16_t>(fadt, 46), 10);
}

TEST(AcpiTables, the_facs_is_64_bytes_with_no_waking_vector) {
  const Bytes facs = make_facs();
  ASSERT_EQ(facs.size(), 64u);
  EXPECT_EQ(load<std::uint32_t>(facs, 4), 64u);
  EXPECT_EQ(load<std::uint32_t>(facs, kFacsWakingVector), 0u);
  EXPECT_EQ(load<std::uint64_t>(facs, kFacsXWakingVector), 0u);
}

// What a guest reads out of a MADT.
struct Madt {
  std::vector<std::uint32_t> enabled_ids;  // in the order of the entries
  unsigned local_apics = 0;
  unsigned local_x2apics = 0;
  std::vector<Bytes> others;
};
Madt read_madt(const Bytes& table) {
  Madt madt;
  std::size_t at = 44;
  while (at < table.size()) {
    const Bytes entry(table.begin() + static_cast<std::ptrdiff_t>(at),
                      table.begin() + static_cast<std::ptrdiff_t>(at + table.at(at + 1)));
    if (entry[0] == 0) {
      EXPECT_EQ(entry.size(), 8u);
      EXPECT_EQ(load<std::uint32_t>(entry, 4), 1u);
      EXPECT_EQ(entry[2], madt.enabled_ids.size()) << "the UID";
      madt.enabled_ids.push_back(entry[3]);
      ++madt.local_apics;
    } else if (entry[0] == 9) {
      EXPECT_EQ(entry.size(), 16u);
      EXPECT_EQ(load<std::uint32_t>(entry, 8), 1u);
      EXPECT_EQ(load<std::uint32_t>(entry, 12), madt.enabled_ids.size()) << "the UID";
      madt.enabled_ids.push_back(load<std::uint32_t>(entry, 4));
      ++madt.local_x2apics;
    } else {
      madt.others.push_back(entry);
    }
    at += entry.size();
  }
  EXPECT_EQ(at, table.size());
  return madt;
}

TEST(AcpiTables, the_madt_lists_every_processor) {
  for (const unsigned cpus : {1u, 4u, 64u}) {
    const BoardDescription board = board_of(cpus);
    const Bytes table = make_madt(board);
    expect_sound(table, "APIC");
    EXPECT_EQ(load<std::uint32_t>(table, 36), 0xfee0'0000u);
    EXPECT_EQ(load<std::uint32_t>(table, 40), 1u) << "8259As as well";
    const Madt madt = read_madt(table);
    EXPECT_EQ(madt.enabled_ids, board.apic_ids);
    EXPECT_EQ(madt.local_x2apics, 0u);
  }
}

TEST(AcpiTables, ids_above_254_have_x2apic_entries) {
  const BoardDescription board = board_of(4, 253);
  const Madt madt = read_madt(make_madt(board));
  EXPECT_EQ(madt.enabled_ids, (std::vector<std::uint32_t>{253, 254, 255, 256}));
  EXPECT_EQ(madt.local_apics, 2u);
  EXPECT_EQ(madt.local_x2apics, 2u);
  EXPECT_EQ(madt.others.back(), (Bytes{0x0a, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0}));
}

TEST(AcpiTables, gaps_and_large_ids_are_kept_as_they_are) {
  BoardDescription board;
  board.apic_ids = {0, 4, 0x100, 0xffff'fffe};
  EXPECT_EQ(read_madt(make_madt(board)).enabled_ids, board.apic_ids);
}

TEST(AcpiTables, the_madt_has_the_ioapic_the_overrides_and_the_nmi) {
  const Madt madt = read_madt(make_madt(board_of(2)));
  EXPECT_EQ(madt.others, (std::vector<Bytes>{{1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0},
                                             {2, 10, 0, 0, 2, 0, 0, 0, 0x05, 0},
                                             {2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0},
                                             {4, 6, 0xff, 0, 0, 1}}));
}

TEST(AcpiTables, the_madt_says_that_pci_interrupts_are_levels) {
  BoardDescription board = board_of(1);
  board.pci_interrupts = {
      {.device = 3, .irq = 11}, {.device = 5, .irq = 10}, {.device = 4, .irq = 11}};
  const Madt madt = read_madt(make_madt(board));
  ASSERT_EQ(madt.others.size(), 6u);
  EXPECT_EQ(madt.others[3], (Bytes{2, 10, 0, 10, 10, 0, 0, 0, 0x0d, 0}));
  EXPECT_EQ(madt.others[4], (Bytes{2, 10, 0, 11, 11, 0, 0, 0, 0x0d, 0}));
}

TEST(AcpiTables, the_dsdt_has_the_sleep_packages_where_kernels_without_aml_look) {
  const Bytes dsdt = make_dsdt(board_of(1));
  expect_sound(dsdt, "DSDT");
  const std::string text(dsdt.begin(), dsdt.end());
  // Small kernels search for the name and take the byte after the package's header.
  EXPECT_THAT(text, HasSubstr(std::string("\x08\\_S5_\x12\x06\x04\0\0\0\0", 13)));
  EXPECT_THAT(text, HasSubstr(std::string("\x08\\_S3_\x12\x06\x04\x01\x01\0\0", 13)));
}

// ACPICA's compiler, if it is installed, reads the tables as kernels do and writes them back.
class Acpica : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v iasl >/dev/null") != 0)
      GTEST_SKIP() << "iasl is not installed (package acpica-tools, tools/setup test)";
    std::string pattern = (std::filesystem::temp_directory_path() / "acpi-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  std::string read(const std::string& file) const {
    std::ifstream in(folder_ / file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  bool iasl(const std::string& arguments) const {
    const std::string command =
        "cd " + folder_.string() + " && iasl " + arguments + " >log 2>&1 </dev/null";
    return std::system(command.c_str()) == 0;
  }
  // The source of `table`. What it compiles to is the table again, but for the compiler's name.
  std::string disassemble(const Bytes& table) const {
    std::ofstream(folder_ / "table.dat", std::ios::binary)
        .write(reinterpret_cast<const char*>(table.data()),
               static_cast<std::streamsize>(table.size()));
    EXPECT_TRUE(iasl("-d table.dat")) << read("log");
    EXPECT_THAT(read("log"), Not(HasSubstr("rror")));
    EXPECT_THAT(read("log"), Not(HasSubstr("arning")));
    EXPECT_TRUE(iasl("-oa table.dsl")) << read("log");
    EXPECT_THAT(read("log"), HasSubstr("0 Errors, 0 Warnings"));
    const std::string again = read("table.aml");
    EXPECT_EQ(again.size(), table.size());
    for (std::size_t i = 0; i < std::min(again.size(), table.size()); ++i) {
      if (i == 9 || (i >= 28 && i < 36)) continue;
      EXPECT_EQ(static_cast<std::uint8_t>(again[i]), table[i]) << "at offset " << i;
    }
    return read("table.dsl");
  }

 private:
  std::filesystem::path folder_;
};

TEST_F(Acpica, takes_the_dsdt_apart_and_puts_it_together_again) {
  const std::string source = disassemble(make_dsdt(board_of(4)));
  for (const char* const part : {"Name (\\_S3", "Name (\\_S5", "Device (PCI0)", "PNP0A03",
                                 "Device (COM1)", "PNP0501", "Device (RTC)", "PNP0B00"})
    EXPECT_THAT(source, HasSubstr(part));
}

TEST_F(Acpica, reads_how_pci_interrupts_are_led) {
  BoardDescription board = board_of(2);
  for (unsigned i = 0; i < 16; ++i)
    board.pci_interrupts.push_back({.device = 3 + i, .irq = 10 + i / 2 % 2});
  const std::string source = disassemble(make_dsdt(board));
  for (const char* const part :
       {"Device (LNKA)", "Device (LNKB)", "PNP0C0F", "Name (_PRT", "0x0003FFFF", "0x0012FFFF",
        "Interrupt (ResourceConsumer, Level, ActiveHigh, Shared", "Method (_SRS, 1",
        "Method (_DIS, 0"})
    EXPECT_THAT(source, HasSubstr(part));
  EXPECT_THAT(disassemble(make_dsdt(board_of(2))), Not(HasSubstr("_PRT")));
}

TEST_F(Acpica, reads_the_fadt) {
  const std::string source = disassemble(make_fadt(board_of(4), 0xe0040, 0xe0200));
  EXPECT_THAT(source, HasSubstr("32-bit PM Timer (V1) : 1"));
}

TEST_F(Acpica, reads_madts_of_all_sizes) {
  for (const auto& board : {board_of(1), board_of(4), board_of(64), board_of(10, 250)})
    disassemble(make_madt(board));
}

TEST_F(Acpica, reads_the_lists) {
  const std::vector<std::uint32_t> tables = {0xe0100, 0xe1000};
  disassemble(make_rsdt(tables));
  disassemble(make_xsdt(tables));
}

}  // namespace
}  // namespace vmm
