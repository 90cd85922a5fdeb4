#include "vmm/machine/uefi_images.h"

#include <gtest/gtest.h>

#include <string_view>

#include "vmm/core/memory_fake.h"

namespace vmm {
namespace {

// Memory of a firmware with two images: one that names its symbols, one that came from a file.
class UefiImages : public testing::Test {
 protected:
  static constexpr Gpa kPointer = 4_MiB, kSystem = 0x1000, kTables = 0x2000, kHeader = 0x3000,
                       kList = 0x4000, kInfo = 0x5000, kLoaded = 0x6000, kPath = 0x7000,
                       kFirst = 0x10000, kSecond = 0x20000;
  FakeRam ram{6_MiB};

  void SetUp() override {
    ram.put64(kPointer, 0x5453595320494249);
    ram.put64(kPointer + 8, kSystem);
    ram.put64(kSystem, 0x5453595320494249);
    ram.put64(kSystem + 104, 2);
    ram.put64(kSystem + 112, kTables);
    ram.put(kTables + 24, {0x77, 0x2e, 0x15, 0x49, 0xda, 0x1a, 0x64, 0x47, 0xb7, 0xa2, 0x7a, 0xfe,
                           0xfe, 0xd9, 0x5e, 0x8b});
    ram.put64(kTables + 40, kHeader);
    ram.put32(kHeader + 4, 3);
    ram.put64(kHeader + 8, kList);
    ram.put64(kList, kInfo);
    ram.put64(kList + 8, 0);  // an image that was unloaded
    ram.put64(kList + 16, kInfo + 0x100);
    add(0, kFirst, 0x8000);
    add(1, kSecond, 0x4000);
    // The first one's debug directory, with CodeView's NB10.
    ram.put(kFirst, {'M', 'Z'});
    ram.put32(kFirst + 0x3c, 0x80);
    ram.put32(kFirst + 0x80, 0x4550);
    ram.put32(kFirst + 0x80 + 24 + 112 + 48, 0x200);
    ram.put32(kFirst + 0x80 + 24 + 112 + 52, 28);
    ram.put32(kFirst + 0x200 + 12, 2);
    ram.put32(kFirst + 0x200 + 20, 0x300);
    put_text(kFirst + 0x300, "NB10");
    put_text(kFirst + 0x310, "/build/DEBUG/PayLoad.elf");
    // The second one's path: a file on a volume.
    ram.put64(kLoaded + 0x100 + 32, kPath);
    ram.put(kPath, {4, 4, 4 + 2 * 11, 0});
    const std::string_view file = "\\EFI\\X.EFI";
    for (std::size_t i = 0; i < file.size(); ++i)
      ram.put(kPath + 4 + 2 * i, {static_cast<std::uint8_t>(file[i]), 0});
    ram.put(kPath + 4 + 2 * 11, {0x7f, 0xff, 4, 0});
  }

  void add(unsigned number, Gva base, std::uint64_t size) {
    ram.put32(kInfo + 0x100 * number, 1);
    ram.put64(kInfo + 0x100 * number + 8, kLoaded + 0x100 * number);
    ram.put64(kLoaded + 0x100 * number + 64, base);
    ram.put64(kLoaded + 0x100 * number + 72, size);
  }
  void put_text(Gpa at, std::string_view text) { ram.put(at, {text.begin(), text.end()}); }
};

TEST_F(UefiImages, are_named_by_their_symbols_or_their_file) {
  const auto images = find_uefi_images(ram, 6_MiB);
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[0].name, "PayLoad");
  EXPECT_EQ(images[0].base, kFirst);
  EXPECT_EQ(images[0].size, 0x8000u);
  EXPECT_EQ(images[1].name, "X");
}

TEST_F(UefiImages, symbols_move_to_the_image_of_their_name) {
  SymbolTable symbols;
  symbols.add("start", 0x1200, 0x40);
  const auto images = find_uefi_images(ram, 6_MiB);
  const SymbolTable moved = uefi_symbols(images, symbols, "out/PayLoad.debug");
  EXPECT_EQ(moved.name_of(kFirst + 0x1210), "start+10h");
  EXPECT_EQ(moved.name_of(kFirst + 0x10), "PayLoad+10h");
  EXPECT_EQ(moved.name_of(kSecond + 0x3fff), "X+3fffh");
  EXPECT_EQ(moved.name_of(kSecond + 0x4000), std::nullopt);
  EXPECT_EQ(uefi_symbols(images, symbols, "other.debug").name_of(0x1200), "start");
}

TEST_F(UefiImages, without_firmware_there_are_none) {
  EXPECT_TRUE(find_uefi_images(FakeRam(6_MiB), 6_MiB).empty());
  EXPECT_TRUE(find_uefi_images(ram, 3_MiB).empty()) << "the pointer is above";
}

// Each word of the tables may be anything.
TEST_F(UefiImages, hostile_tables_give_fewer_images_and_nothing_worse) {
  const FakeRam good = ram;
  std::uint64_t random = 7;
  for (Gpa at : {kPointer + 8, kSystem + 104, kSystem + 112, kTables + 40, kHeader + 4, kHeader + 8,
                 kList, kInfo + 8, kLoaded + 64, kLoaded + 72, kFirst + 0x3c,
                 kFirst + 0x80 + 24 + 112 + 48, kFirst + 0x200 + 20, kPath, kLoaded + 0x100 + 32})
    for (int i = 0; i < 50; ++i) {
      ram = good;
      random = random * 6364136223846793005 + 1442695040888963407;
      ram.put64(at, i == 0 ? ~0ull : random >> (i % 60));
      const auto images = find_uefi_images(ram, 6_MiB);
      EXPECT_LE(images.size(), 2u + kMaxUefiImages);
      for (const UefiImage& image : images) EXPECT_FALSE(image.name.empty());
    }
}

}  // namespace
}  // namespace vmm
