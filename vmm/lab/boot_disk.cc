#include "vmm/lab/boot_disk.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "loader/bzimage_header.h"
#include "vmm/base/bytes.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/units.h"
#include "vmm/lab/mailbox.h"

extern "C" {
extern const std::uint8_t vmm_boot_sector[];
extern const std::uint8_t vmm_boot_sector_end[];
}

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kPayload = 16_MiB;  // where the disk's images begin, behind the mailbox
static_assert(mailbox::kEnd <= kPayload);

// Offsets in the sector and in the block of parameters; boot_sector.S has the same.
constexpr std::size_t kTable = 0x1bc;  // entries of three dwords: sector, sectors, address
constexpr std::size_t kEntry = 12;
constexpr std::size_t kEntries = 5;  // and an empty one behind them
constexpr std::size_t kCommandLine = 0x1000;
constexpr std::size_t kMaxCommandLine = 2048;  // with its end
constexpr std::size_t kEntryPoint = 0x1ff8;
constexpr std::size_t kPml4 = 0x2000;
constexpr std::size_t kPdpt = 0x3000;
constexpr std::size_t kPageDirectory = 0x4000;
constexpr std::size_t kParametersSize = 0x5000;

namespace spec = bzimage_header;

std::vector<std::uint8_t> make_parameters(const LoadedImage& kernel, std::size_t initramfs_size,
                                          std::string_view command_line) {
  std::vector<std::uint8_t> block(kParametersSize);
  const std::size_t header =
      std::min<std::size_t>(kernel.setup_header.size(), kCommandLine - spec::kSetupSects);
  std::copy_n(kernel.setup_header.begin(), header, block.begin() + spec::kSetupSects);
  store<std::uint16_t>(block, spec::kVidMode, 0xffff);
  store<std::uint8_t>(block, spec::kTypeOfLoader, 0xff);
  store<std::uint32_t>(block, spec::kRamdiskImage, boot_disk::kInitramfs);
  store(block, spec::kRamdiskSize, static_cast<std::uint32_t>(initramfs_size));
  store(block, spec::kCmdLinePtr,
        static_cast<std::uint32_t>(boot_disk::kParameters + kCommandLine));
  std::copy(command_line.begin(), command_line.end(), block.begin() + kCommandLine);
  store(block, kEntryPoint, kernel.entry);
  // The first GiB as it is, in pages of 2 MiB; what is not there is never touched.
  constexpr std::uint64_t kTableBits = 0x3;
  constexpr std::uint64_t kPageBits = 0x83;
  store(block, kPml4, boot_disk::kParameters + kPdpt + kTableBits);
  store(block, kPdpt, boot_disk::kParameters + kPageDirectory + kTableBits);
  for (std::uint64_t i = 0; i < 512; ++i)
    store(block, kPageDirectory + 8 * i, i * 2_MiB + kPageBits);
  return block;
}

// The segments as one block of memory from the first to the last byte that is in the file. What
// comes behind is the kernel's own to clear.
Result<std::vector<std::uint8_t>> flatten(const LoadedImage& elf, std::uint64_t& base) {
  base = elf.lowest() / kSector * kSector;
  if (base < boot_disk::kParameters + kParametersSize || elf.highest() > boot_disk::kInitramfs)
    return fail(
        Error::usage(fmt::format("the kernel wants to lie at {:x}h to {:x}h, a lab has "
                                 "{:x}h to {:x}h for it",
                                 elf.lowest(), elf.highest(),
                                 boot_disk::kParameters + kParametersSize, boot_disk::kInitramfs)));
  std::vector<std::uint8_t> memory;
  for (const Segment& segment : elf.segments) {
    const std::size_t offset = segment.gpa - base;
    if (segment.file_size == 0) continue;
    if (memory.size() < offset + segment.file_size) memory.resize(offset + segment.file_size);
    std::copy_n(elf.bytes.begin() + static_cast<std::ptrdiff_t>(segment.file_offset),
                segment.file_size, memory.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  return memory;
}

// Writes the images one after another and lists them in the sector's table.
class DiskWriter {
 public:
  explicit DiskWriter(const Fd& fd)
      : fd_(fd), sector_(boot_sector().begin(), boot_sector().end()) {}

  Result<void> add(Bytes bytes, std::uint64_t address) {
    VMM_CHECK(entries_ < kEntries, "the boot sector's table is full");
    const std::uint64_t sectors = (bytes.size() + kSector - 1) / kSector;
    const std::size_t at = kTable + kEntry * entries_++;
    store(std::span(sector_), at, static_cast<std::uint32_t>(end_ / kSector));
    store(std::span(sector_), at + 4, static_cast<std::uint32_t>(sectors));
    store(std::span(sector_), at + 8, static_cast<std::uint32_t>(address));
    VMM_TRY(write(bytes, end_));
    end_ += sectors * kSector;
    return {};
  }

  // Bochs' geometry wants whole cylinders of 16 heads and 63 sectors.
  Result<void> finish() {
    constexpr std::uint64_t kCylinder = 16 * 63 * kSector;
    VMM_TRY(write(sector_, 0));
    if (::ftruncate(fd_.get(),
                    static_cast<off_t>((end_ + kCylinder - 1) / kCylinder * kCylinder)) != 0)
      return fail(Error::system(ErrorKind::Lab, "the lab's disk: ftruncate", errno));
    return {};
  }

 private:
  Result<void> write(Bytes bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return fail(Error::system(ErrorKind::Lab, "the lab's disk: pwrite", errno));
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
    return {};
  }

  const Fd& fd_;
  std::vector<std::uint8_t> sector_;
  std::size_t entries_ = 0;
  std::uint64_t end_ = kPayload;
};

}  // namespace

std::span<const std::uint8_t> boot_sector() { return {vmm_boot_sector, vmm_boot_sector_end}; }

Result<Fd> make_boot_disk(const LoadedImage& kernel, Bytes initramfs, std::string_view command_line,
                          std::uint64_t memory) {
  if (command_line.size() >= kMaxCommandLine)
    return fail(
        Error::usage(fmt::format("the lab's kernel command line has {} bytes; {} are the "
                                 "most that Linux takes",
                                 command_line.size(), kMaxCommandLine - 1)));
  if (memory < boot_disk::kInitramfs + 64_MiB ||
      initramfs.size() > memory - boot_disk::kInitramfs - 64_MiB)
    return fail(Error::usage(fmt::format("the lab's memory of {} MiB is too small", memory / 1_MiB))
                    .hint("--lab-mem 1G"));
  std::uint64_t base = 0;
  const auto kernel_memory = VMM_TRY(flatten(kernel, base));
  Fd fd = VMM_TRY(memory_file("lab-disk"));
  DiskWriter disk(fd);
  VMM_TRY(
      disk.add(make_parameters(kernel, initramfs.size(), command_line), boot_disk::kParameters));
  VMM_TRY(disk.add(kernel_memory, base));
  VMM_TRY(disk.add(initramfs, boot_disk::kInitramfs));
  VMM_TRY(disk.finish());
  return fd;
}

}  // namespace vmm
