// A virtio disk with a driver and a backend in memory, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "devices/virtio_blk.h"
#include "devices/virtio_rings_fake.h"
#include "vmm/core/irq_fake.h"

namespace vmm {

class VirtioRig : public testing::Test {
 protected:
  static constexpr std::uint64_t kSectors = 64;
  static constexpr Gpa kRings = 0x10000, kHeader = 0x20000, kData = 0x30000, kStatus = 0x21000;
  static constexpr std::uint16_t kWrite = FakeDescriptor::kWrite;
  static constexpr std::uint8_t kUntouched = 0xee;

  explicit VirtioRig(bool read_only = false)
      : geometry{.sectors = kSectors, .read_only = read_only, .id = "a disk"} {
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::uint8_t>(i / kSectorSize + i);
  }

  RecordingIrq irq;
  IrqPins pins{irq, 4};
  GuestMemory memory = std::move(GuestMemory::create(4_MiB)).value();
  BlockGeometry geometry;
  std::vector<MsiMessage> messages;
  unsigned remaps = 0, works = 0, flushes = 0;
  bool failing = false;
  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(kSectors * kSectorSize);
  VirtioBlk disk{
      "disk0", geometry, memory,
      VirtioPci::Wires{.line = pins.line(1),
                       .msi = [this](const MsiMessage& message) { messages.push_back(message); },
                       .remap = [this] { ++remaps; },
                       .work = [this] { ++works; }}};
  FakeRings rings{memory, kRings, VirtQueueState::kMaxSize};

  template <typename T>
  void write(std::uint64_t offset, T value) {
    std::array<std::uint8_t, sizeof value> data;
    store(data, 0, value);
    ASSERT_EQ(disk.write(offset, data), Access::Ok) << std::hex << offset;
  }
  template <typename T>
  T read(std::uint64_t offset) {
    std::array<std::uint8_t, sizeof(T)> data{};
    EXPECT_EQ(disk.read(offset, data), Access::Ok) << std::hex << offset;
    return load<T>(data);
  }
  template <typename T>
  T config(std::uint8_t offset) {
    std::array<std::uint8_t, sizeof(T)> data{};
    disk.read_config(offset, data);
    return load<T>(data);
  }
  template <typename T>
  void set_config(std::uint8_t offset, T value) {
    std::array<std::uint8_t, sizeof value> data;
    store(data, 0, value);
    disk.write_config(offset, data);
  }
  static constexpr std::uint64_t modern(std::uint64_t offset) {
    return VirtioPci::kModernOffset + offset;
  }

  void enable_bus_master() { set_config(0x04, std::uint16_t{0x0007}); }
  // As OVMF drives it.
  void start_legacy(std::uint32_t features = 0) {
    enable_bus_master();
    for (const unsigned status : {0u, 1u, 3u}) write(0x12, static_cast<std::uint8_t>(status));
    write(0x04, features);
    write(0x08, static_cast<std::uint32_t>(kRings >> 12));
    write(0x12, std::uint8_t{7});
  }
  void start_modern(std::uint64_t features, std::uint16_t size = VirtQueueState::kMaxSize) {
    enable_bus_master();
    for (const unsigned status : {0u, 1u, 3u})
      write(modern(0x14), static_cast<std::uint8_t>(status));
    for (const std::uint32_t half : {0u, 1u}) {
      write(modern(0x08), half);
      write(modern(0x0c), static_cast<std::uint32_t>(features >> 32 * half));
    }
    write(modern(0x14), std::uint8_t{0x0b});
    write(modern(0x18), size);
    write(modern(0x20), rings.descriptors);
    write(modern(0x28), rings.available);
    write(modern(0x30), rings.used);
    write(modern(0x1c), std::uint16_t{1});
    write(modern(0x14), std::uint8_t{0x0f});
  }

  void put_header(std::uint32_t type, std::uint64_t sector) {
    rings.put(kHeader, type);
    rings.put(kHeader + 4, std::uint32_t{0});
    rings.put(kHeader + 8, sector);
    rings.put(kStatus, kUntouched);
  }
  // A request of three descriptors from `head` on, offered to the device.
  void request(std::uint32_t type, std::uint64_t sector, std::uint32_t size,
               std::uint16_t head = 0) {
    put_header(type, sector);
    const std::uint16_t direction = type == 1 ? 0 : kWrite;
    if (size == 0)
      rings.chain(head, {{kHeader, 16}, {kStatus, 1, kWrite}});
    else
      rings.chain(head, {{kHeader, 16}, {kData, size, direction}, {kStatus, 1, kWrite}});
    rings.offer(head);
  }
  std::uint8_t status() const { return rings.get<std::uint8_t>(kStatus); }
  // What the machine's thread does, with a buffer of this size; how many parts there were.
  unsigned work(std::size_t buffer_size = 4096) {
    std::vector<std::uint8_t> buffer(buffer_size);
    unsigned jobs = 0;
    while (const auto job = disk.next_job(buffer)) {
      ++jobs;
      perform(*job, buffer);
      disk.finish_job(*job, !failing, buffer);
    }
    return jobs;
  }
  void perform(const BlockJob& job, std::span<std::uint8_t> buffer) {
    ASSERT_LE(job.offset + job.size, bytes.size());
    const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(job.offset);
    if (job.kind == BlockJob::Kind::Flush) ++flushes;
    if (job.kind == BlockJob::Kind::Read) std::copy_n(at, job.size, buffer.begin());
    if (job.kind == BlockJob::Kind::Write) std::copy_n(buffer.begin(), job.size, at);
  }
  std::vector<std::uint8_t> guest_bytes(Gpa at, std::size_t size) const {
    std::vector<std::uint8_t> data(size);
    EXPECT_TRUE(memory.read(at, data));
    return data;
  }
  std::vector<std::uint8_t> disk_bytes(std::uint64_t sector, std::size_t size) const {
    const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(sector * kSectorSize);
    return {at, at + static_cast<std::ptrdiff_t>(size)};
  }
};

constexpr std::uint64_t kVersion1 = std::uint64_t{1} << 32;

}  // namespace vmm
