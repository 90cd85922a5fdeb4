// The vmx lab's disk: what the boot sector finds in its table is what Linux' boot protocol wants.
#include "vmm/lab/boot_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/bzimage.h"
#include "loader/compressed_fake.h"
#include "vmm/base/bytes.h"
#include "vmm/base/units.h"
#include "vmm/lab/mailbox.h"

namespace vmm {
namespace {

using Bytes = std::vector<std::uint8_t>;

// An ELF64 executable with one segment of `text` at `address`, entered at its begin.
Bytes small_kernel(std::uint64_t address, const Bytes& text) {
  constexpr std::size_t kHeaders = 64 + 56;
  Bytes elf(kHeaders);
  const Bytes ident = {0x7f, 'E', 'L', 'F', 2, 1, 1};
  std::copy(ident.begin(), ident.end(), elf.begin());
  store<std::uint16_t>(elf, 16, 2);   // ET_EXEC
  store<std::uint16_t>(elf, 18, 62);  // EM_X86_64
  store<std::uint32_t>(elf, 20, 1);
  store<std::uint64_t>(elf, 24, address);
  store<std::uint64_t>(elf, 32, 64);  // program headers
  store<std::uint16_t>(elf, 52, 64);
  store<std::uint16_t>(elf, 54, 56);
  store<std::uint16_t>(elf, 56, 1);
  store<std::uint32_t>(elf, 64, 1);  // PT_LOAD
  store<std::uint32_t>(elf, 68, 5);
  store<std::uint64_t>(elf, 72, kHeaders);
  store<std::uint64_t>(elf, 80, address);
  store<std::uint64_t>(elf, 88, address);
  store<std::uint64_t>(elf, 96, text.size());
  store<std::uint64_t>(elf, 104, text.size() + 100);
  elf.insert(elf.end(), text.begin(), text.end());
  return elf;
}

const Bytes kText = {0xf4, 1, 2, 3, 4, 5};

// The kernel out of a bzImage.
Result<LoadedImage> unpacked(std::uint64_t address, const Bytes& text) {
  LoadedImage image;
  image.bytes = testing_packed::bzimage(small_kernel(address, text));
  VMM_TRY(parse_unpacked_bzimage(image));
  return image;
}

TEST(BootSector, is_one_with_the_bioss_mark_and_an_empty_table) {
  ASSERT_EQ(boot_sector().size(), 512U);
  EXPECT_EQ(load<std::uint16_t>(boot_sector(), 510), 0xaa55);
  for (std::size_t at = 0x1bc; at < 0x1fe; ++at) EXPECT_EQ(boot_sector()[at], 0) << at;
}

struct BootDisk : testing::Test {
  LoadedImage kernel = unpacked(16_MiB, kText).value();
  Bytes initramfs = Bytes(1000, 0x77);

  // What the sector's code would put at `address`, first `size` bytes.
  static Bytes loaded(std::span<const std::uint8_t> disk, std::uint64_t address, std::size_t size) {
    for (std::size_t entry = 0x1bc; load<std::uint32_t>(disk, entry + 4) != 0; entry += 12) {
      if (load<std::uint32_t>(disk, entry + 8) != address) continue;
      const std::uint64_t start = std::uint64_t{load<std::uint32_t>(disk, entry)} * 512;
      EXPECT_LE(size, std::size_t{load<std::uint32_t>(disk, entry + 4)} * 512);
      const auto bytes = disk.subspan(start, size);
      return {bytes.begin(), bytes.end()};
    }
    ADD_FAILURE() << "nothing is loaded at " << address;
    return {};
  }
};

TEST_F(BootDisk, lists_parameters_kernel_and_initramfs) {
  const Fd fd = make_boot_disk(kernel, initramfs, "console=ttyS0", 1_GiB).value();
  const Mapping disk = Mapping::shared(fd, 17_MiB).value();
  EXPECT_EQ(loaded(disk.bytes(), 16_MiB, kText.size()), kText);
  EXPECT_EQ(loaded(disk.bytes(), boot_disk::kInitramfs, 1000), initramfs);
  const Bytes block = loaded(disk.bytes(), boot_disk::kParameters, 0x5000);
  ASSERT_EQ(block.size(), 0x5000U);
  EXPECT_EQ(load<std::uint32_t>(block, 0x202), 0x53726448U);
  EXPECT_EQ(load<std::uint32_t>(block, 0x218), boot_disk::kInitramfs);
  EXPECT_EQ(load<std::uint32_t>(block, 0x21c), 1000U);
  EXPECT_EQ(load<std::uint32_t>(block, 0x228), boot_disk::kParameters + 0x1000);
  EXPECT_STREQ(reinterpret_cast<const char*>(block.data() + 0x1000), "console=ttyS0");
  EXPECT_EQ(load<std::uint64_t>(block, 0x1ff8), 16_MiB);
  EXPECT_EQ(load<std::uint64_t>(block, 0x2000), boot_disk::kParameters + 0x3000 + 3);
  EXPECT_EQ(load<std::uint64_t>(block, 0x4008), 2_MiB + 0x83);
}

TEST_F(BootDisk, leaves_the_mailbox_empty) {
  const Fd fd = make_boot_disk(kernel, initramfs, "", 1_GiB).value();
  const Mapping disk = Mapping::shared(fd, 17_MiB).value();
  const auto mail =
      disk.bytes().subspan(mailbox::kHostControl, mailbox::kEnd - mailbox::kHostControl);
  EXPECT_THAT(mail, testing::Each(0));
}

TEST_F(BootDisk, refuses_what_has_no_room) {
  EXPECT_FALSE(make_boot_disk(kernel, initramfs, std::string(2048, 'x'), 1_GiB).has_value());
  EXPECT_FALSE(make_boot_disk(kernel, initramfs, "", 256_MiB).has_value());
  for (const std::uint64_t address : {std::uint64_t{0}, std::uint64_t{1_MiB}, 255_MiB + 1023_KiB}) {
    const auto elsewhere = unpacked(address, Bytes(4096, 1));
    if (!elsewhere) continue;
    EXPECT_FALSE(make_boot_disk(*elsewhere, initramfs, "", 1_GiB).has_value()) << address;
  }
}

}  // namespace
}  // namespace vmm
