// Reads a FAT32 disk as firmware would: partition table, boot sector, root directory; prints the
// file HELLO.TXT that is there, and then every file in the root with the sum of its bytes. On a
// disk that can be written it changes the first sector of CHANGED.TXT, removes GONE.TXT, renames
// OLD.TXT and makes the directory MADE.
#include "guest-tests/guests/virtio_disk.h"

using namespace guest;

namespace {

alignas(4096) Rings rings;
alignas(16) volatile uint8_t sector_data[512], directory_data[512];

uint32_t number(const volatile uint8_t* at, uint32_t bytes) {
  uint32_t value = 0;
  for (uint32_t i = bytes; i-- > 0;) value = value << 8 | at[i];
  return value;
}
bool is(const volatile uint8_t* at, const char* text) {
  for (; *text != '\0'; ++text, ++at)
    if (*at != static_cast<uint8_t>(*text)) return false;
  return true;
}

struct Volume {
  VirtioDisk& disk;
  uint32_t fat = 0, fat_sectors = 0, data = 0, per_cluster = 0, root = 0;

  void read(uint64_t sector, volatile uint8_t* to) {
    if (disk.request(spec::BLK_IN, sector, const_cast<uint8_t*>(to), 512) != spec::BLK_OK) {
      print("FAILED  sector ", hex(sector), "\n");
      exit_with(9);
    }
  }
  void write(uint64_t sector, volatile uint8_t* from) {
    if (disk.request(spec::BLK_OUT, sector, const_cast<uint8_t*>(from), 512) != spec::BLK_OK) {
      print("FAILED  to write sector ", hex(sector), "\n");
      exit_with(10);
    }
  }
  uint32_t sector_of(uint32_t cluster) const { return data + (cluster - 2) * per_cluster; }
  uint32_t next(uint32_t cluster) {
    read(fat + cluster / 128, sector_data);
    return number(sector_data + cluster % 128 * 4, 4);
  }
};

// All bytes of a file, to the console where it is the one that is to be shown.
void show(Volume& volume, uint32_t cluster, uint32_t size, bool text) {
  uint32_t sum = 0;
  uint32_t left = size;
  while (left > 0) {
    for (uint32_t i = 0; i < volume.per_cluster && left > 0; ++i) {
      volume.read(volume.sector_of(cluster) + i, sector_data);
      for (uint32_t at = 0; at < 512 && left > 0; ++at, --left) {
        sum += sector_data[at];
        if (text) put(static_cast<char>(sector_data[at]));
      }
    }
    if (left > 0) cluster = volume.next(cluster);
  }
  print(decimal(size), " bytes, sum ", decimal(sum), "\n");
}

void put_number(volatile uint8_t* at, uint32_t value, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; ++i) at[i] = static_cast<uint8_t>(value >> (8 * i));
}
void put_text(volatile uint8_t* at, const char* text) {
  for (; *text != '\0'; ++text, ++at) *at = static_cast<uint8_t>(*text);
}

// What changes in an entry of the root directory; true if anything did.
bool change(Volume& volume, volatile uint8_t* entry) {
  if (is(entry, "CHANGED TXT")) {
    const uint32_t sector = volume.sector_of(number(entry + 26, 2));
    volume.read(sector, sector_data);
    for (uint32_t i = 0; i < 512; ++i) sector_data[i] = 'g';
    volume.write(sector, sector_data);
  } else if (is(entry, "GONE    TXT")) {
    entry[0] = 0xe5;
    return true;
  } else if (is(entry, "OLD     TXT")) {
    put_text(entry, "NEW     TXT");
    return true;
  }
  return false;
}

// An empty directory in a cluster far from all others, whose entry goes to `entry`.
void make_directory(Volume& volume, volatile uint8_t* entry) {
  constexpr uint32_t kCluster = 60000;
  for (uint32_t table = 0; table < 2; ++table) {
    const uint32_t sector = volume.fat + table * volume.fat_sectors + kCluster / 128;
    volume.read(sector, sector_data);
    put_number(sector_data + kCluster % 128 * 4, 0x0fffffff, 4);
    volume.write(sector, sector_data);
  }
  for (uint32_t i = 0; i < 512; ++i) sector_data[i] = 0;
  for (uint32_t i = 0; i < volume.per_cluster; ++i)
    volume.write(volume.sector_of(kCluster) + i, sector_data);
  put_text(entry, "MADE       ");
  entry[11] = 0x10;
  put_number(entry + 20, 0, 2);
  put_number(entry + 26, kCluster, 2);
  put_number(entry + 28, 0, 4);
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  PciDevice pci;
  require(find_pci_device(spec::VIRTIO_BLK, pci), "a virtio disk is on PCI", 1);
  static VirtioDisk disk(pci, false, rings);
  require(disk.find_windows(), "with all of its windows", 2);
  disk.enable();
  const bool writable = !disk.read_only_offered();
  if (!writable) require(true, "it is read-only", 3);
  require(disk.start(0), "the driver and the device agree", 4);
  Volume volume{disk};
  volume.read(0, sector_data);
  require(number(sector_data + 510, 2) == 0xaa55 && sector_data[446 + 4] == 0x0c,
          "it has a FAT32 partition", 5);
  const uint32_t start = number(sector_data + 446 + 8, 4);
  volume.read(start, sector_data);
  require(number(sector_data + 510, 2) == 0xaa55 && is(sector_data + 82, "FAT32"),
          "with a boot sector", 6);
  volume.per_cluster = sector_data[13];
  volume.fat = start + number(sector_data + 14, 2);
  volume.fat_sectors = number(sector_data + 36, 4);
  volume.data = volume.fat + 2 * volume.fat_sectors;
  volume.root = number(sector_data + 44, 4);
  for (uint32_t sector = 0; sector < volume.per_cluster; ++sector) {
    volume.read(volume.sector_of(volume.root) + sector, directory_data);
    bool changed = false;
    for (uint32_t at = 0; at < 512; at += 32) {
      volatile uint8_t* entry = directory_data + at;
      if (entry[0] == 0) {
        if (!writable) return 0;
        make_directory(volume, entry);
        volume.write(volume.sector_of(volume.root) + sector, directory_data);
        print("ok      it was written\n");
        return 0;
      }
      if ((entry[11] & 0x18) != 0) continue;  // long name, label, directory
      for (uint32_t i = 0; i < 11; ++i) put(static_cast<char>(entry[i]));
      print(": ");
      show(volume, number(entry + 20, 2) << 16 | number(entry + 26, 2), number(entry + 28, 4),
           is(entry, "HELLO   TXT"));
      if (writable) changed = change(volume, entry) || changed;
    }
    if (changed) volume.write(volume.sector_of(volume.root) + sector, directory_data);
  }
  return 0;
}
