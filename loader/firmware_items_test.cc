#include "loader/firmware_items.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using Bytes = std::vector<std::uint8_t>;

std::string text_at(const Bytes& bytes, std::size_t offset, std::size_t size) {
  return {bytes.begin() + static_cast<std::ptrdiff_t>(offset),
          bytes.begin() + static_cast<std::ptrdiff_t>(offset + size)};
}

unsigned sum(std::span<const std::uint8_t> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0U) & 0xff;
}

// A firmware that does what the script says: each file at an address of its own.
class Linker {
 public:
  explicit Linker(const std::vector<FirmwareFile>& files) {
    for (const FirmwareFile& file : files) files_[file.name] = file.bytes;
    const Bytes script = files_.at("etc/table-loader");
    for (std::size_t at = 0; at + 128 <= script.size(); at += 128)
      run(Bytes(script.begin() + static_cast<std::ptrdiff_t>(at),
                script.begin() + static_cast<std::ptrdiff_t>(at + 128)));
    EXPECT_EQ(script.size() % 128, 0u);
  }
  const Bytes& file(const std::string& name) const { return files_.at(name); }
  // The table at a guest address.
  Bytes table(std::uint64_t address) const {
    const std::uint64_t base = placed_.at("etc/acpi/tables");
    const Bytes& tables = files_.at("etc/acpi/tables");
    EXPECT_GE(address, base);
    EXPECT_LT(address, base + tables.size());
    const auto offset = static_cast<std::ptrdiff_t>(address - base);
    const auto length = load<std::uint32_t>(tables, static_cast<std::size_t>(offset) + 4);
    return {tables.begin() + offset, tables.begin() + offset + length};
  }

 private:
  static std::string name_at(const Bytes& entry, std::size_t offset) {
    const std::string name = text_at(entry, offset, 56);
    return name.substr(0, name.find('\0'));
  }
  void run(const Bytes& entry) {
    Bytes& target = files_.at(name_at(entry, 4));
    switch (load<std::uint32_t>(entry, 0)) {
      case 1: {
        const auto alignment = load<std::uint32_t>(entry, 60);
        const std::uint64_t base = entry[64] == 2 ? 0xf5a40 : 0x7e51'0000;
        EXPECT_EQ(base % alignment, 0u);
        EXPECT_TRUE(placed_.emplace(name_at(entry, 4), base).second) << "allocated twice";
        return;
      }
      case 2: {
        const std::uint64_t base = placed_.at(name_at(entry, 60));
        const auto offset = load<std::uint32_t>(entry, 116);
        if (entry[120] == 4)
          store(target, offset,
                static_cast<std::uint32_t>(load<std::uint32_t>(target, offset) + base));
        else
          store(target, offset, load<std::uint64_t>(target, offset) + base);
        return;
      }
      case 3: {
        const std::span<const std::uint8_t> part = std::span(target).subspan(
            load<std::uint32_t>(entry, 64), load<std::uint32_t>(entry, 68));
        target[load<std::uint32_t>(entry, 60)] =
            static_cast<std::uint8_t>(-static_cast<int>(sum(part)));
        return;
      }
      default:
        ADD_FAILURE() << "command " << load<std::uint32_t>(entry, 0);
    }
  }

  std::map<std::string, Bytes> files_;
  std::map<std::string, std::uint64_t> placed_;
};

class FirmwareItemsTest : public testing::Test {
 protected:
  GuestMemory memory = std::move(GuestMemory::create(64_MiB)).value();
  FirmwareFacts facts{.memory = &memory, .board = {.apic_ids = {0, 1, 2}}};

  std::optional<Bytes> file(const std::string& name) {
    for (const FirmwareFile& file : make_firmware_items(facts).files)
      if (file.name == name) return file.bytes;
    return std::nullopt;
  }
  std::optional<Bytes> key(std::uint16_t number) {
    for (const auto& [key, bytes] : make_firmware_items(facts).keys)
      if (key == number) return bytes;
    return std::nullopt;
  }
};

TEST_F(FirmwareItemsTest, the_script_links_tables_that_a_guest_finds_from_the_pointer) {
  facts.board.pm_base = 0xb000;
  const Linker linker(make_acpi_files(facts.board));
  const Bytes& rsdp = linker.file("etc/acpi/rsdp");
  EXPECT_EQ(text_at(rsdp, 0, 8), "RSD PTR ");
  EXPECT_EQ(sum(rsdp), 0u);
  EXPECT_EQ(sum(std::span(rsdp).first(20)), 0u);
  const Bytes rsdt = linker.table(load<std::uint32_t>(rsdp, 16));
  const Bytes xsdt = linker.table(load<std::uint64_t>(rsdp, 24));
  EXPECT_EQ(text_at(rsdt, 0, 4), "RSDT");
  EXPECT_EQ(text_at(xsdt, 0, 4), "XSDT");
  EXPECT_EQ(sum(rsdt), 0u);
  EXPECT_EQ(sum(xsdt), 0u);
  std::vector<std::string> found;
  for (std::size_t at = 36; at < xsdt.size(); at += 8) {
    const Bytes table = linker.table(load<std::uint64_t>(xsdt, at));
    EXPECT_EQ(load<std::uint32_t>(rsdt, 36 + (at - 36) / 2), load<std::uint64_t>(xsdt, at));
    EXPECT_EQ(sum(table), 0u);
    found.push_back(text_at(table, 0, 4));
    if (found.back() != "FACP") continue;
    EXPECT_EQ(load<std::uint32_t>(table, 64), 0xb004u);  // PM1a_CNT
    EXPECT_EQ(text_at(linker.table(load<std::uint32_t>(table, 36)), 0, 4), "FACS");
    EXPECT_EQ(load<std::uint64_t>(table, 132), load<std::uint32_t>(table, 36));
    const Bytes dsdt = linker.table(load<std::uint64_t>(table, 140));
    EXPECT_EQ(load<std::uint64_t>(table, 140), load<std::uint32_t>(table, 40));
    EXPECT_EQ(text_at(dsdt, 0, 4), "DSDT");
    EXPECT_EQ(sum(dsdt), 0u);
  }
  EXPECT_THAT(found, testing::ElementsAre("FACP", "APIC"));
}

TEST_F(FirmwareItemsTest, files_keep_their_size_when_the_acpi_registers_move) {
  const auto before = make_acpi_files(facts.board);
  facts.board.pm_base = 0xb000;
  const auto after = make_acpi_files(facts.board);
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].name, after[i].name);
    EXPECT_EQ(before[i].bytes.size(), after[i].bytes.size());
  }
  EXPECT_NE(before[0].bytes, after[0].bytes);
}

TEST_F(FirmwareItemsTest, without_suspend_the_tables_offer_no_s3) {
  const auto has_s3 = [&] {
    const auto files = make_acpi_files(facts.board);
    const std::string_view name = "_S3_";
    const Bytes& tables = files[0].bytes;
    return std::search(tables.begin(), tables.end(), name.begin(), name.end()) != tables.end();
  };
  EXPECT_TRUE(has_s3());
  facts.board.suspend = false;
  EXPECT_FALSE(has_s3());
}

TEST_F(FirmwareItemsTest, the_memory_map_is_ram_and_what_looks_free) {
  memory = std::move(GuestMemory::create(5_GiB)).value();
  const Bytes map = file("etc/e820").value();
  ASSERT_EQ(map.size(), 3u * 20);
  EXPECT_EQ(load<std::uint64_t>(map, 0), 0u);
  EXPECT_EQ(load<std::uint64_t>(map, 8), 3_GiB);
  EXPECT_EQ(load<std::uint32_t>(map, 16), 1u);
  EXPECT_EQ(load<std::uint64_t>(map, 20), 0xfeffc000u);
  EXPECT_EQ(load<std::uint32_t>(map, 36), 2u);
  EXPECT_EQ(load<std::uint64_t>(map, 40), 4_GiB);
  EXPECT_EQ(load<std::uint64_t>(map, 48), 2_GiB);
}

TEST_F(FirmwareItemsTest, a_kernel_comes_with_its_command_line_and_initrd) {
  const Bytes image = {'M', 'Z', 1, 2, 3};
  const Bytes initrd = {9, 9};
  facts.kernel = {.image = image, .command_line = "a=1", .initrd = initrd};
  EXPECT_EQ(key(0x08), (Bytes{5, 0, 0, 0}));
  EXPECT_EQ(key(0x11), image);
  EXPECT_EQ(key(0x14), (Bytes{4, 0, 0, 0}));
  EXPECT_EQ(key(0x15), (Bytes{'a', '=', '1', 0}));
  EXPECT_EQ(key(0x0b), (Bytes{2, 0, 0, 0}));
  EXPECT_EQ(key(0x12), initrd);
}

TEST_F(FirmwareItemsTest, without_a_kernel_there_are_no_keys_of_one) {
  EXPECT_TRUE(make_firmware_items(facts).keys.empty());
}

TEST_F(FirmwareItemsTest, disks_are_booted_from_in_their_order) {
  EXPECT_FALSE(file("bootorder"));
  facts.disk_devices = {3, 17};
  const Bytes order = file("bootorder").value();
  EXPECT_EQ(text_at(order, 0, order.size()),
            std::string("/pci@i0cf8/scsi@3/disk@0,0\n/pci@i0cf8/scsi@11/disk@0,0") + '\0');
}

TEST_F(FirmwareItemsTest, feature_control_is_for_models_that_have_it) {
  EXPECT_FALSE(file("etc/msr_feature_control"));
  facts.feature_control = 5;
  EXPECT_EQ(file("etc/msr_feature_control"), (Bytes{5, 0, 0, 0, 0, 0, 0, 0}));
}

// DSP0134 5.2.2 and 6.1.2: structures with their strings, up to type 127.
TEST_F(FirmwareItemsTest, smbios_structures_follow_each_other_to_the_end) {
  facts.smbios = {.sockets = 2,
                  .cores_per_socket = 4,
                  .threads_per_socket = 8,
                  .memory_below_4g = 3_GiB,
                  .memory_above_4g = 1_GiB};
  const Bytes anchor = file("etc/smbios/smbios-anchor").value();
  const Bytes tables = file("etc/smbios/smbios-tables").value();
  ASSERT_EQ(anchor.size(), 24u);
  EXPECT_EQ(text_at(anchor, 0, 5), "_SM3_");
  EXPECT_EQ(sum(anchor), 0u);
  EXPECT_EQ(load<std::uint32_t>(anchor, 12), tables.size());
  std::map<unsigned, std::vector<std::size_t>> found;
  std::size_t at = 0;
  while (at + 4 <= tables.size()) {
    found[tables[at]].push_back(at);
    std::size_t next = at + tables[at + 1];
    while (next + 1 < tables.size() && (tables[next] != 0 || tables[next + 1] != 0)) ++next;
    at = next + 2;
  }
  EXPECT_EQ(at, tables.size());
  ASSERT_EQ(found[4].size(), 2u);
  ASSERT_EQ(found[17].size(), 1u);
  ASSERT_EQ(found[19].size(), 2u);
  ASSERT_EQ(found[127].size(), 1u);
  // Lengths of 3.4: system, enclosure, processor, array, device, range.
  EXPECT_EQ(tables[found[1][0] + 1], 0x1b);
  EXPECT_EQ(tables[found[4][0] + 1], 0x30);
  EXPECT_EQ(tables[found[16][0] + 1], 0x17);
  EXPECT_EQ(tables[found[19][0] + 1], 0x1f);
  const std::size_t processor = found[4][1];
  EXPECT_EQ(tables[processor + 0x23], 4);                             // core count
  EXPECT_EQ(tables[processor + 0x25], 8);                             // thread count
  EXPECT_EQ(load<std::uint16_t>(tables, found[17][0] + 0x0c), 4096);  // MiB
  EXPECT_EQ(load<std::uint64_t>(tables, found[19][1] + 0x0f), 4_GiB);
  EXPECT_EQ(load<std::uint64_t>(tables, found[19][1] + 0x17), 5_GiB - 1);
}

}  // namespace
}  // namespace vmm
