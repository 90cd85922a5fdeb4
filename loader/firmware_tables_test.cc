#include "loader/firmware_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "loader/acpi_tables.h"
#include "loader/e820.h"
#include "loader/image_builder.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<std::uint8_t>;

class FirmwareTables : public testing::Test {
 protected:
  GuestMemory memory = std::move(GuestMemory::create(2_MiB)).value();
  BoardDescription board{.apic_ids = {0, 1, 2, 3}};

  template <typename T>
  T at(Gpa gpa) {
    return memory.read_value<T>(gpa).value();
  }
  std::string text(Gpa gpa, std::size_t size) {
    std::string bytes(size, 0);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = at<char>(gpa + i);
    return bytes;
  }
  unsigned sum(Gpa gpa, std::size_t size) {
    const std::string bytes = text(gpa, size);
    return std::accumulate(bytes.begin(), bytes.end(), 0U) & 0xff;
  }
  std::string refusal() {
    Bytes before(2_MiB);
    EXPECT_TRUE(memory.read(0, before));
    const Result<void> placed = place_firmware_tables(memory, board);
    Bytes after(2_MiB);
    EXPECT_TRUE(memory.read(0, after));
    EXPECT_EQ(before, after) << "nothing is written";
    return placed ? "placed" : placed.error().text();
  }
};

// As a kernel does it (ACPI 6.4 section 5.2.5.1): multiples of 16 from E0000h on.
TEST_F(FirmwareTables, a_guest_finds_every_table_from_the_pointer) {
  ASSERT_TRUE(place_firmware_tables(memory, board).has_value());
  Gpa rsdp = 0xe0000;
  while (rsdp < 0x100000 && text(rsdp, 8) != "RSD PTR ") rsdp += 16;
  ASSERT_EQ(rsdp, kRsdp);
  EXPECT_EQ(sum(rsdp, 36), 0u);
  const Gpa xsdt = at<std::uint64_t>(rsdp + 24);
  const Gpa rsdt = at<std::uint32_t>(rsdp + 16);
  EXPECT_EQ(text(xsdt, 4), "XSDT");
  EXPECT_EQ(text(rsdt, 4), "RSDT");
  std::vector<std::string> found;
  for (std::uint32_t i = 36; i < at<std::uint32_t>(xsdt + 4); i += 8) {
    const Gpa table = at<std::uint64_t>(xsdt + i);
    EXPECT_EQ(at<std::uint32_t>(rsdt + 36 + (i - 36) / 2), table);
    EXPECT_EQ(sum(table, at<std::uint32_t>(table + 4)), 0u);
    found.push_back(text(table, 4));
  }
  EXPECT_EQ(found, (std::vector<std::string>{"FACP", "APIC"}));
  EXPECT_EQ(text(at<std::uint32_t>(kFadt + 40), 4), "DSDT");
  const Gpa facs = at<std::uint32_t>(kFadt + 36);
  EXPECT_EQ(text(facs, 4), "FACS");
  EXPECT_EQ(facs % 64, 0u);
}

TEST_F(FirmwareTables, a_guest_finds_the_mp_table) {
  ASSERT_TRUE(place_firmware_tables(memory, board).has_value());
  Gpa pointer = 0xf0000;
  while (pointer < 0x100000 && text(pointer, 4) != "_MP_") pointer += 16;
  ASSERT_EQ(pointer, kMpPointer);
  EXPECT_EQ(sum(pointer, 16), 0u);
  const Gpa table = at<std::uint32_t>(pointer + 4);
  EXPECT_EQ(text(table, 4), "PCMP");
  EXPECT_EQ(sum(table, at<std::uint16_t>(table + 4)), 0u);
}

TEST_F(FirmwareTables, all_of_it_lies_in_reserved_memory_that_loaders_leave_free) {
  std::fill_n(memory.regions()[0].host.begin(), 2_MiB, std::uint8_t{0xaa});
  ASSERT_TRUE(place_firmware_tables(memory, board).has_value());
  const std::string low = text(0, kBiosArea);
  EXPECT_EQ(low.find_first_not_of('\xaa'), low.npos);
  const std::string high = text(1_MiB, 1_MiB);
  EXPECT_EQ(high.find_first_not_of('\xaa'), high.npos);
  const std::vector<E820Entry> map = make_e820(memory);
  EXPECT_THAT(map, testing::Contains(E820Entry{kBiosArea, 1_MiB - kBiosArea, 2}));

  // The boot block and modules of the largest images stay away from it.
  const std::string tables = text(kBiosArea, 1_MiB - kBiosArea);
  using namespace testing_images;
  BootOptions options = with_protocol("multiboot1");
  const auto image = parse(minimal_multiboot1<Class64>(), options);
  options.modules = {{"module", "", pattern(100'000)}};
  ASSERT_TRUE(place_image(*image, options, memory));
  EXPECT_EQ(text(kBiosArea, 1_MiB - kBiosArea), tables);
}

TEST_F(FirmwareTables, many_processors_fit) {
  board.apic_ids.resize(2048);
  std::iota(board.apic_ids.begin(), board.apic_ids.end(), 0U);
  ASSERT_TRUE(place_firmware_tables(memory, board).has_value());
  EXPECT_EQ(sum(kMadt, at<std::uint32_t>(kMadt + 4)), 0u);
  EXPECT_EQ(text(kMpPointer, 4), "_MP_");
}

TEST_F(FirmwareTables, too_many_processors_are_refused) {
  board.apic_ids.resize(5000);
  std::iota(board.apic_ids.begin(), board.apic_ids.end(), 0U);
  EXPECT_THAT(refusal(), HasSubstr("firmware table at e1000h has"));
}

TEST_F(FirmwareTables, boards_that_cannot_be_described_are_refused) {
  const BoardDescription good = board;
  board.apic_ids.clear();
  EXPECT_EQ(refusal(), "firmware tables cannot describe this board: it has no vCPU");
  board.apic_ids = {0, 7, 7};
  EXPECT_THAT(refusal(), HasSubstr("two vCPUs have APIC ID 7h"));
  board = good;
  board.sci = 16;
  EXPECT_THAT(refusal(), HasSubstr("interrupt 16 for the SCI"));
  board = good;
  board.pm_base = 0x604;
  EXPECT_THAT(refusal(), HasSubstr("604h"));
  board = good;
  board.io_apic_address = 0x1000;
  EXPECT_THAT(refusal(), HasSubstr("1000h is not above the RAM"));
}

// The stub.

constexpr std::uint8_t kIret = 0xcf;

class BiosStub : public FirmwareTables {
 protected:
  void SetUp() override { place_bios_stub(memory); }
  Gpa handler(unsigned vector) {
    return at<std::uint16_t>(4 * vector + 2) * 16U + at<std::uint16_t>(4 * vector);
  }
  // The ports that a handler writes before it returns. Knows the few instructions that there are.
  std::vector<std::pair<unsigned, unsigned>> run(unsigned vector) {
    std::vector<std::pair<unsigned, unsigned>> writes;
    unsigned al = 0x5a;
    std::vector<unsigned> stack;
    for (Gpa ip = handler(vector);;) {
      switch (const auto opcode = at<std::uint8_t>(ip++)) {
        case 0x50:
          stack.push_back(al);
          break;
        case 0x58:
          al = stack.back();
          stack.pop_back();
          break;
        case 0xb0:
          al = at<std::uint8_t>(ip++);
          break;
        case 0xe6:
          writes.emplace_back(at<std::uint8_t>(ip++), al);
          break;
        default:
          EXPECT_EQ(opcode, kIret) << vector;
          EXPECT_EQ(al, 0x5au) << "registers are kept";
          EXPECT_TRUE(stack.empty());
          return writes;
      }
    }
  }
};

TEST_F(BiosStub, hardware_interrupts_are_acknowledged_and_others_just_return) {
  using Writes = std::vector<std::pair<unsigned, unsigned>>;
  for (unsigned vector = 0; vector < 256; ++vector) {
    EXPECT_GE(handler(vector), 0xf0000u) << vector;
    EXPECT_LT(handler(vector), 0x100000u) << vector;
    Writes expected;
    if (vector >= 0x08 && vector <= 0x0f) expected = {{0x20, 0x20}};
    if (vector >= 0x70 && vector <= 0x77) expected = {{0xa0, 0x20}, {0x20, 0x20}};
    EXPECT_EQ(run(vector), expected) << vector;
  }
}

TEST_F(BiosStub, the_data_area_tells_of_a_screen_a_serial_port_and_639_kib) {
  EXPECT_EQ(at<std::uint16_t>(0x400), 0x3f8);
  EXPECT_EQ(at<std::uint16_t>(0x40e), 0x9fc0);
  EXPECT_EQ(at<std::uint16_t>(0x410), 0x0222);
  EXPECT_EQ(at<std::uint16_t>(0x413), 639);
  EXPECT_EQ(at<std::uint16_t>(0x44a), 80);
  EXPECT_EQ(at<std::uint16_t>(0x463), 0x3d4);
  EXPECT_EQ(at<std::uint8_t>(0x9fc00), 1) << "the EBDA has 1 KiB";
  EXPECT_EQ(at<std::uint32_t>(0x46c), 0u) << "ticks are the guest's";
}

TEST_F(BiosStub, the_reset_vector_leads_to_the_reset_port) {
  EXPECT_EQ(at<std::uint8_t>(0xffff0), 0xea);
  const Gpa target = at<std::uint16_t>(0xffff3) * 16U + at<std::uint16_t>(0xffff1);
  // cli; mov dx, CF9h; mov al, 6; out dx, al; hlt; jmp to the hlt
  EXPECT_EQ(text(target, 10), "\xfa\xba\xf9\x0c\xb0\x06\xee\xf4\xeb\xfd");
}

TEST_F(BiosStub, it_stays_clear_of_the_tables_and_of_free_ram) {
  const std::string vectors = text(0, 0x500);
  ASSERT_TRUE(place_firmware_tables(memory, board).has_value());
  EXPECT_EQ(text(0, 0x500), vectors);
  EXPECT_EQ(run(0x08).size(), 1u);
  const std::string free = text(0x500, 0x9fc00 - 0x500);
  EXPECT_EQ(free.find_first_not_of('\0'), free.npos);
}

TEST_F(BiosStub, one_mib_of_memory_and_a_trapped_screen_are_enough) {
  GuestMemory small = std::move(GuestMemory::create(1_MiB, true)).value();
  place_bios_stub(small);
  EXPECT_TRUE(place_firmware_tables(small, board).has_value());
}

}  // namespace
}  // namespace vmm
