#include "vmm/disk/fat_volume.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "vmm/base/bytes.h"
#include "vmm/core/block_backend.h"
#include "vmm/disk/fat_builder.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint32_t RESERVED_SECTORS = 32;
constexpr std::uint32_t FSINFO_SECTOR = 1, BACKUP_SECTOR = 6;
constexpr std::uint32_t FIRST_CLUSTER = 2;
constexpr std::uint32_t MIN_CLUSTERS = 65525;  // fewer are FAT16 to whoever counts
constexpr std::uint32_t MAX_CLUSTERS = 0x0fff'ff00;
constexpr std::uint32_t END_OF_CHAIN = 0x0fff'ffff;
constexpr std::uint8_t MEDIA = 0xf8;
constexpr std::uint8_t PARTITION_FAT32_LBA = 0x0c;
constexpr std::uint64_t MAX_DISK_SECTORS = 0xffff'ffff;  // of a partition table

}  // namespace
}  // namespace spec

namespace {

constexpr std::uint32_t kSerial = 0x5648'4d4d;  // fixed, so that the same tree is the same disk
constexpr std::uint32_t kMaxSectorsPerCluster = 64;
constexpr std::string_view kLabel = "VMM SHARE  ";
// int 18h ("no bootable disk"), then nothing more.
constexpr std::uint8_t kBootCode[] = {0xcd, 0x18, 0xeb, 0xfe};

// A sector's address as old firmware has it: none, since it does not fit.
constexpr std::uint8_t kNoChs[] = {0xfe, 0xff, 0xff};

}  // namespace

std::uint64_t FatVolume::fat_offset() const {
  return (first_sector_ + std::uint64_t{spec::RESERVED_SECTORS}) * kSectorSize;
}

std::uint64_t FatVolume::data_offset() const {
  return fat_offset() + 2 * std::uint64_t{fat_sectors_} * kSectorSize;
}

FatLayout FatVolume::layout() const {
  return {.partition = first_sector_ * kSectorSize,
          .fat = fat_offset(),
          .fat_size = std::uint64_t{fat_sectors_} * kSectorSize,
          .data = data_offset(),
          .cluster_size = cluster_size(),
          .clusters = clusters_,
          .root = spec::FIRST_CLUSTER};
}

std::vector<FatRun> FatVolume::file_runs(std::size_t count) const {
  std::vector<FatRun> runs(count);
  for (const Extent& extent : extents_)
    if (!extent.directory) runs.at(extent.index) = {extent.first, extent.count};
  return runs;
}

Result<FatVolume> FatVolume::create(FatNode root, const std::string& path, std::uint64_t room) {
  FatVolume volume;
  FatBuilder builder(path);
  VMM_TRY(builder.check(root));
  // Larger clusters only where there would be too many.
  std::uint64_t needed = builder.clusters(root, volume.cluster_size());
  while (needed > spec::MAX_CLUSTERS / 8 && volume.sectors_per_cluster_ < kMaxSectorsPerCluster) {
    volume.sectors_per_cluster_ *= 2;
    needed = builder.clusters(root, volume.cluster_size());
  }
  const std::uint64_t clusters =
      std::max<std::uint64_t>(needed + 1 + room / volume.cluster_size(), spec::MIN_CLUSTERS + 11);
  const std::uint64_t fat_sectors = (clusters + spec::FIRST_CLUSTER + 127) / 128;
  const std::uint64_t sectors =
      spec::RESERVED_SECTORS + 2 * fat_sectors + clusters * volume.sectors_per_cluster_;
  if (clusters > spec::MAX_CLUSTERS || sectors + volume.first_sector_ > spec::MAX_DISK_SECTORS)
    return fail(Error::image(path + ": its files are too large for a FAT disk together"));
  volume.clusters_ = static_cast<std::uint32_t>(clusters);
  volume.fat_sectors_ = static_cast<std::uint32_t>(fat_sectors);
  volume.partition_sectors_ = sectors;

  auto placed = builder.build(root, spec::FIRST_CLUSTER, volume.cluster_size(), kLabel);
  for (const FatBuilder::Placed& item : placed.items)
    volume.extents_.push_back({item.first, item.count, item.directory, item.index, item.size});
  volume.directories_ = std::move(placed.directories);
  volume.used_clusters_ = placed.clusters;
  volume.write_headers();
  return volume;
}

// Master boot record, boot sector, FSInfo; the latter two with their backups.
void FatVolume::write_headers() {
  master_.resize(kSectorSize);
  std::copy(std::begin(kBootCode), std::end(kBootCode), master_.begin());
  store(master_, 440, kSerial);
  const std::size_t partition = 446;
  std::copy(std::begin(kNoChs), std::end(kNoChs), master_.begin() + partition + 1);
  master_[partition + 4] = spec::PARTITION_FAT32_LBA;
  std::copy(std::begin(kNoChs), std::end(kNoChs), master_.begin() + partition + 5);
  store(master_, partition + 8, first_sector_);
  store(master_, partition + 12, static_cast<std::uint32_t>(partition_sectors_));
  store(master_, 510, std::uint16_t{0xaa55});

  reserved_.resize(spec::RESERVED_SECTORS * kSectorSize);
  const std::span<std::uint8_t> boot = std::span(reserved_).first(kSectorSize);
  const std::uint8_t jump[] = {0xeb, 0x58, 0x90};
  std::copy(std::begin(jump), std::end(jump), boot.begin());
  put_text(boot, 3, "VMM     ");
  store(boot, 11, static_cast<std::uint16_t>(kSectorSize));
  boot[13] = static_cast<std::uint8_t>(sectors_per_cluster_);
  store(boot, 14, static_cast<std::uint16_t>(spec::RESERVED_SECTORS));
  boot[16] = 2;  // tables
  boot[21] = spec::MEDIA;
  store(boot, 24, std::uint16_t{63});  // sectors a track and heads, of no use
  store(boot, 26, std::uint16_t{255});
  store(boot, 28, first_sector_);
  store(boot, 32, static_cast<std::uint32_t>(partition_sectors_));
  store(boot, 36, fat_sectors_);
  store(boot, 44, spec::FIRST_CLUSTER);  // of the root directory
  store(boot, 48, static_cast<std::uint16_t>(spec::FSINFO_SECTOR));
  store(boot, 50, static_cast<std::uint16_t>(spec::BACKUP_SECTOR));
  boot[64] = 0x80;  // drive
  boot[66] = 0x29;  // serial number, label and type follow
  store(boot, 67, kSerial);
  put_text(boot, 71, kLabel);
  put_text(boot, 82, "FAT32   ");
  std::copy(std::begin(kBootCode), std::end(kBootCode), boot.begin() + 0x5a);
  store(boot, 510, std::uint16_t{0xaa55});

  const std::span<std::uint8_t> info =
      std::span(reserved_).subspan(spec::FSINFO_SECTOR * kSectorSize, kSectorSize);
  put_text(info, 0, "RRaA");
  put_text(info, 484, "rrAa");
  store(info, 488, clusters_ - used_clusters_);
  store(info, 492, spec::FIRST_CLUSTER + used_clusters_);
  store(info, 510, std::uint16_t{0xaa55});
  std::copy_n(reserved_.begin(), 2 * kSectorSize,
              reserved_.begin() + spec::BACKUP_SECTOR * kSectorSize);
}

const FatVolume::Extent* FatVolume::extent_of(std::uint64_t cluster) const {
  const auto after = std::upper_bound(
      extents_.begin(), extents_.end(), cluster,
      [](std::uint64_t wanted, const Extent& extent) { return wanted < extent.first; });
  if (after == extents_.begin()) return nullptr;
  const Extent& extent = *std::prev(after);
  return cluster - extent.first < extent.count ? &extent : nullptr;
}

// Every chain is one run of clusters.
std::uint32_t FatVolume::fat_entry(std::uint64_t cluster) const {
  if (cluster == 0) return 0x0fff'ff00 | spec::MEDIA;
  if (cluster == 1) return spec::END_OF_CHAIN;
  const Extent* extent = extent_of(cluster);
  if (extent == nullptr) return 0;
  const bool last = cluster == extent->first + extent->count - 1;
  return last ? spec::END_OF_CHAIN : static_cast<std::uint32_t>(cluster + 1);
}

// From `offset` in either table; as much as belongs to one run or to none.
std::size_t FatVolume::read_fat(std::uint64_t offset, std::span<std::uint8_t> data) const {
  const std::uint64_t in_table = offset % (std::uint64_t{fat_sectors_} * kSectorSize);
  const std::size_t count = std::min<std::size_t>(
      data.size(), static_cast<std::size_t>(std::uint64_t{fat_sectors_} * kSectorSize - in_table));
  for (std::size_t at = 0; at < count; at += 4) store(data, at, fat_entry((in_table + at) / 4));
  return count;
}

// From `offset` behind the tables; as much as one run has, or one cluster that is free.
std::size_t FatVolume::read_data(std::uint64_t offset, std::span<std::uint8_t> data,
                                 FatFiles& files, bool& ok) const {
  const std::uint64_t cluster = spec::FIRST_CLUSTER + offset / cluster_size();
  const Extent* extent = extent_of(cluster);
  if (extent == nullptr) {
    const std::size_t count = std::min<std::size_t>(
        data.size(), static_cast<std::size_t>(cluster_size() - offset % cluster_size()));
    std::fill_n(data.begin(), count, std::uint8_t{0});
    return count;
  }
  const std::uint64_t at = (cluster - extent->first) * cluster_size() + offset % cluster_size();
  const std::uint64_t left = extent->count * cluster_size() - at;
  const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(data.size(), left));
  const std::size_t real = static_cast<std::size_t>(
      std::min<std::uint64_t>(count, at < extent->size ? extent->size - at : 0));
  if (real != 0 && extent->directory)
    std::copy_n(directories_[extent->index].begin() + static_cast<std::ptrdiff_t>(at), real,
                data.begin());
  else if (real != 0)
    ok = files.read_file(extent->index, at, data.first(real)) && ok;
  std::fill(data.begin() + static_cast<std::ptrdiff_t>(real),
            data.begin() + static_cast<std::ptrdiff_t>(count), std::uint8_t{0});
  return count;
}

bool FatVolume::read(std::uint64_t offset, std::span<std::uint8_t> data, FatFiles& files) const {
  bool ok = true;
  // The bytes of `part` that begin at `start` on the disk, then up to `end` nothing.
  const auto copy = [&](std::span<const std::uint8_t> part, std::uint64_t start,
                        std::uint64_t end) {
    const std::size_t count =
        static_cast<std::size_t>(std::min<std::uint64_t>(data.size(), end - offset));
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t at = offset + i - start;
      data[i] = at < part.size() ? part[static_cast<std::size_t>(at)] : std::uint8_t{0};
    }
    return count;
  };
  const std::uint64_t partition = first_sector_ * kSectorSize;
  while (!data.empty()) {
    std::size_t count = 0;
    if (offset < partition)
      count = copy(master_, 0, partition);
    else if (offset < fat_offset())
      count = copy(reserved_, partition, fat_offset());
    else if (offset < data_offset())
      count = read_fat(offset - fat_offset(), data);
    else
      count = read_data(offset - data_offset(), data, files, ok);
    offset += count;
    data = data.subspan(count);
  }
  return ok;
}

}  // namespace vmm
